"""Blocks: the sections that may be averaged together, those of one label source and one modality."""

from __future__ import annotations

import pandas as pd

from senca_ray import keys

BLOCK = (keys.LABEL_SOURCE, keys.MODALITY)
"""Columns that tell blocks apart."""

_SOURCE_WORDS = {
    keys.ANNOTATED: "annotated",
    keys.TRANSFERRED: "transferred labels",
    keys.SIMULATED: "simulated",
    keys.UNLABELLED: "without labels",
}


def block_title(label_source: str, modality: str) -> str:
    """A block in words, for example 'annotated, without image'."""
    if not label_source:
        return "sections that could not be read"
    image = "with image" if modality == keys.RNA_IMAGE else "without image"
    return f"{_SOURCE_WORDS[label_source]}, {image}"


def block_titles(index: pd.Index) -> list[str]:
    """Title of the block of every entry; the index has BLOCK among its levels."""
    return [
        block_title(*pair) for pair in zip(*(index.get_level_values(name) for name in BLOCK), strict=True)
    ]


def block_order(label_source: str, modality: str) -> tuple[int, str]:
    """Sort key: as keys.LABEL_SOURCES, sections that could not be read last; without image first."""
    return (*keys.LABEL_SOURCES, "").index(label_source), modality


def with_blocks(results: pd.DataFrame) -> pd.DataFrame:
    """Rows of a trial that could not read its section take patient and block from the section's others."""
    columns = [keys.PATIENT, *BLOCK]
    known = results.groupby(keys.SAMPLE)[columns].transform("first")
    return results.assign(**{name: results[name].fillna(known[name]).fillna("") for name in columns})
