"""mmdata: from lists of links and folders of media to training shards, with every sample accounted for."""

__version__ = "0.1.0"
