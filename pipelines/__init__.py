"""Pipelines that come with the repository, and what they need."""
