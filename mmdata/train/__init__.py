"""Consumers of an emitted dataset."""
