"""Scores that need a model: one scorer per file."""
