"""Sound: from bytes of strangers to mono 16-bit sound at one rate, measures of it, and features."""
