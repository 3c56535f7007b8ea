"""What the W&B run of a trial shows of its section: its regions as a picture, its embedding as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from senca_ray import keys
from senca_ray.analysis.embeddings import read_embedding
from senca_ray.data.shards import Display
from senca_ray.report.maps import SectionMaps, match, picture
from senca_ray.report.view import StudyView

_SPOTS = 1000
"""Rows at most in the table of an embedding, evenly over the section's spots."""


def picture_of(view: StudyView, section: SectionMaps, shown: pd.Series) -> Any:
    """The regions of the typical seed on the section, in the colours that all maps of the section have."""
    import wandb

    regions = np.asarray(shown[keys.REGIONS])
    # The first map, of the labels or else of the default, lends its colours.
    reference = next((m.codes for m in section.maps if m.codes is not None), np.full(len(regions), -1))
    codes = match(regions, reference, first_free=len(view.labels))
    scored = "" if pd.isna(shown[keys.ARI]) else f"ARI {shown[keys.ARI]:.3f}, "
    caption = f"{shown[keys.SAMPLE]}: {scored}{shown[keys.K]:.0f} regions, seed {shown[keys.SEED]}"
    if view.description["simulated"]:
        caption += " (simulated)"
    return wandb.Image(picture(section, codes), caption=caption, file_type="jpg")


@dataclass(frozen=True)
class Learnt:
    """Where a trial puts the N spots of its section."""

    values: np.ndarray
    """(N, 2) the portrait's UMAP, or (N, D) the embedding that the trial kept."""
    is_umap: bool
    regions: np.ndarray
    """(N,) of the portrait, or of the embedding's seed."""

    def table(self, display: Display | None) -> pd.DataFrame:
        """Some spots, evenly over the section, in two dimensions, with region and label."""
        names = ("umap_1", "umap_2") if self.is_umap else ("pc_1", "pc_2")
        places = self.values if self.is_umap else _principal(self.values)
        n = len(self.regions)
        spots = np.unique(np.linspace(0, n - 1, min(_SPOTS, n)).round().astype(int))
        table = pd.DataFrame(np.round(places[spots].astype(float), 4), columns=list(names))
        table["region"] = [
            f"region {name}" if name != keys.NO_REGION else None for name in self.regions[spots]
        ]
        if display is not None and display.labels is not None:
            table["label"] = np.asarray(display.labels, dtype=object)[spots]
        return table


def learnt_by(
    view: StudyView, method: str, setting: str, sample: str, shown: pd.Series | None
) -> Learnt | None:
    """UMAP where the section's portrait is of this trial and has it, else what the trial kept."""
    portrait = view.portraits.get(sample)
    if portrait and portrait.umap is not None and (portrait.method, portrait.setting) == (method, setting):
        return Learnt(portrait.umap, True, portrait.regions)
    kept = None if shown is None else read_embedding(view.folder, method, setting, sample)
    return (
        None if kept is None or shown is None else Learnt(kept.values, False, np.asarray(shown[keys.REGIONS]))
    )


def _principal(values: np.ndarray) -> np.ndarray:
    """The first two principal components (N, 2) of values (N, D); of one dimension the second is 0."""
    centred = values.astype(float) - values.mean(axis=0)
    directions = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :2]
    found = np.zeros((len(values), 2))
    found[:, : directions.shape[1]] = centred @ directions
    return found
