"""One section of a study as it is exported: its shard, its portrait, and the row whose regions these are."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from senca_ray import keys
from senca_ray.analysis.embeddings import KeptEmbedding, read_embedding
from senca_ray.analysis.outlines import spot_spacing
from senca_ray.analysis.portrait import Portrait
from senca_ray.data.sample import ALL_GENES, Sample
from senca_ray.data.shards import read_display, read_sample
from senca_ray.errors import SencaError

PIXELS, SPOT_DISTANCES = "pixels of the full-resolution image", "spot distances"

_JSON, _COUNTS = (keys.LABEL_F1, keys.PAIR), (keys.K, keys.N_SPOTS, keys.N_SCORED)
_SCORES = (
    *(keys.ARI, keys.NMI, keys.SILHOUETTE, keys.CHAOS, keys.PAS, keys.LABEL_F1, keys.PAIR, keys.PAIR_AMI),
    keys.STABILITY,
    *_COUNTS,
)


@dataclass(frozen=True)
class ExportedSection:
    """N spots in k regions, and all that is known of them."""

    sample: Sample
    spots: tuple[str, ...]
    pixel_xy: np.ndarray | None
    """(N, 2) positions in the full-resolution image; None without one."""
    image: np.ndarray | None
    """(H, W, 3) uint8 the image, reduced; None without one."""
    image_scale: float
    """Pixels of `image` a pixel of the full-resolution one; 1 without one."""
    portrait: Portrait
    embedding: KeptEmbedding | None
    about: dict[str, Any]
    """How the regions came about, and their scores, as uns["senca"] tells it."""

    @property
    def places(self) -> np.ndarray:
        """(N, 2) positions in `unit`."""
        return self.sample.xy if self.pixel_xy is None else self.pixel_xy

    @property
    def unit(self) -> str:
        """What positions are measured in: PIXELS or SPOT_DISTANCES."""
        return SPOT_DISTANCES if self.pixel_xy is None else PIXELS

    @property
    def spacing(self) -> float:
        """Distance of neighbouring spots in `unit`."""
        return spot_spacing(self.places)

    @property
    def kinds(self) -> np.ndarray | None:
        """(N,) kind of every spot's region, keys.NO_REGION for spots without; None where not matched."""
        return self.portrait.kinds_of_spots(keys.NO_REGION) if self.portrait.kinds else None

    @property
    def colours(self) -> dict[int, str]:
        """Colour of every region: that of its kind, so that kinds have one colour in all sections."""
        from senca_ray.report.maps import colour_of

        portrait = self.portrait
        return {r: colour_of(portrait.kinds[r] if portrait.kinds else r) for r in portrait.shares}


def read_section(
    study: Path, shard: str, portrait: Portrait, rows: pd.DataFrame, description: dict[str, Any]
) -> ExportedSection:
    """Read all of a section that is exported; `rows` are the result rows of the portrait's variant.

    Raises SencaError where the shard cannot be read or is no longer that of the study.
    """
    shown = shown_row(portrait, rows)
    try:
        sample, display = read_sample(shard, ALL_GENES, shown[keys.ENCODER]), read_display(shard)
        image = None
        if display.thumbnail is not None:
            with Image.open(io.BytesIO(display.thumbnail)) as picture:
                image = np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise SencaError(f"its shard cannot be read ({' '.join(str(error).split())})") from None
    if sample.fingerprint != shown[keys.FINGERPRINT] or len(sample.xy) != len(portrait.regions):
        raise SencaError(
            f"{shard} is not the shard that the study ran on; expected fingerprint {shown[keys.FINGERPRINT]}"
        )
    about = _about(description, portrait, rows, shown)
    embedding = read_embedding(study, portrait.method, portrait.setting, portrait.sample)
    if embedding is not None and len(embedding.values) != len(sample.xy):
        raise SencaError(
            f"its embedding holds {len(embedding.values)} spots; expected {len(sample.xy)}, as the shard"
        )
    if embedding is not None:
        about["embedding_seed"] = embedding.seed
    return ExportedSection(
        sample=sample,
        spots=display.spots,
        pixel_xy=display.pixel_xy,
        image=image,
        image_scale=display.thumbnail_scale,
        portrait=portrait,
        embedding=embedding,
        about=about,
    )


def shown_row(portrait: Portrait, rows: pd.DataFrame) -> pd.Series:
    """The row among those of the portrait's variant whose regions it shows, the consensus first.

    Raises SencaError where none has them: then the scores are not those of these regions.
    """
    for _, row in rows.sort_values(keys.SEED).iterrows():
        if np.array_equal(row[keys.REGIONS], portrait.regions):
            return row
    raise SencaError("its portrait is older than the results; make it again with `senca report`")


def _about(
    description: dict[str, Any], portrait: Portrait, rows: pd.DataFrame, shown: pd.Series
) -> dict[str, Any]:
    seeds = rows[rows[keys.CLUSTERING] != keys.CONSENSUS]
    combined = shown[keys.CLUSTERING] == keys.CONSENSUS
    # Of several clusterings of one fit the typical seed was found in the one that was combined.
    own = seeds[seeds[keys.TYPICAL].eq(True)] if combined else shown.to_frame().T
    return {
        "study": description["name"],
        "simulated": bool(description["simulated"]),
        "method": portrait.method,
        "setting_name": portrait.setting,
        "setting": shown[keys.CONFIG],
        "regions_of": f"consensus of {portrait.n_seeds} seeds" if combined else f"seed {shown[keys.SEED]}",
        "seeds": sorted(set(seeds[keys.SEED])) if combined else [int(shown[keys.SEED])],
        "k_policy": shown[keys.K_POLICY],
        "undetermined": shown[keys.PROTOCOL],
        "clustering": (own if len(own) else seeds).iloc[0][keys.CLUSTERING],
        "patient": shown[keys.PATIENT],
        "versions": shown[keys.VERSIONS],
        "scores": json.dumps({name: _plain(name, shown[name]) for name in _SCORES}),
    }


def _plain(name: str, value: Any) -> Any:
    if value is None or pd.isna(value):
        return None
    if name in _JSON:
        return json.loads(value)
    return int(value) if name in _COUNTS else float(value)
