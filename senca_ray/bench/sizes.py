"""Sizes of the section that fits are measured on; imports nothing, so that made-up trials stay light."""

SPOTS, GENES, FEATURES, LABELS = 600, 1200, 1280, 6
"""FEATURES as the packaged encoder gives them."""
