"""Captions: cleaning, language, statistics, rules, hashes, tokens, augmentation. One stage a file."""
