"""The AnnData table of one section: what a fit and an exported study write alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from senca_ray import keys
from senca_ray.data.sample import Sample

if TYPE_CHECKING:
    from anndata import AnnData


def section_table(
    sample: Sample, spots: Sequence[str], regions: np.ndarray, about: Mapping[str, Any]
) -> AnnData:
    """A section as AnnData: X the raw counts of the genes read, obs region and label, uns what it is.

    `spots` (N,) become the names of the observations; spots without region in `regions` (N,) have none in
    obs. `about` is told in uns["senca"] with what the shard says.
    """
    import anndata

    obs = pd.DataFrame(index=list(spots))
    obs[keys.OBS_REGION] = codes(regions)
    if sample.labels is not None:
        obs[keys.OBS_LABEL] = pd.Categorical(sample.labels)
    for name, labels in sample.annotations.items():
        obs[annotator_column(name)] = pd.Categorical(labels)
    data = anndata.AnnData(
        sample.counts.astype(np.float32), obs=obs, var=pd.DataFrame(index=list(sample.genes))
    )
    data.uns["senca"] = {
        **about,
        "modality": sample.modality,
        "encoder": sample.encoder,
        "label_source": sample.label_source,
        "fingerprint": sample.fingerprint,
    }
    return data


def annotator_column(name: str) -> str:
    """Name of the column with the labels of another annotator."""
    return f"{keys.OBS_LABEL}.{name}"


def codes(values: np.ndarray) -> pd.Categorical:
    """Numbers (N,) as the names scanpy colours by; negative ones are missing."""
    names = np.unique(values[values >= 0]).tolist()
    found = [None if value < 0 else str(value) for value in values.tolist()]
    return pd.Categorical(found, categories=[str(name) for name in names])
