"""Files a run is made of: tar shards, ledgers, commit records, and how they are published."""
