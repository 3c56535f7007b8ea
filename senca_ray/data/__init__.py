"""From raw sections to shards, and from shards to samples."""
