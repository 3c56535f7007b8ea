"""Clusters: what one costs, whether it will come up, and studies sent to it and brought home."""
