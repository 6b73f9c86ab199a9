"""The final dataset: shards, sidecars, index, manifest, card and report."""
