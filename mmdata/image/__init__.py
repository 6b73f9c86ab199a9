"""Pictures: decode, transform, hash; one stage per file."""
