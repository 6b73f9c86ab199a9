"""Laws of the sources."""
