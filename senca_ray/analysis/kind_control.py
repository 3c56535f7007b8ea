"""Whether regions recur over sections, or whether any regions could have been matched like this."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from senca_ray import keys
from senca_ray.analysis.kinds import DECIMALS, compared_genes, group, images_compare, likeness, match_kinds
from senca_ray.analysis.region_profiles import RegionProfiles
from senca_ray.errors import SencaError
from senca_ray.files import write_json

_FILE = "kinds.json"
_SHUFFLES = 999


@dataclass(frozen=True)
class KindControl:
    """Whether regions recur, or whether any regions could have been matched like this.

    Regions are matched once more on every other spot of each, and compared on the spots that had no part in
    that: mean cosine inside kinds, over pairs of different patients (of sections, with one patient). Beside
    it the same where each section's kinds are shuffled among its regions.
    """

    rests_on: tuple[str, ...]
    """'expression', and 'image' where all sections have one."""
    genes: int
    """Genes compared."""
    regions: int
    recurring: int
    """Regions, among all, whose kind occurs in more than one patient (section, with one patient)."""
    pairs: int
    """Pairs of regions of one kind that were compared on held-out spots; with none the rest is None."""
    alike: float | None
    shuffled: float | None
    """Mean over the shuffles."""
    shuffled_high: float | None
    """19 of 20 shuffles lie below."""
    p: float | None
    """Share of the shuffles, the matching itself among them, that are as alike."""
    least_p: float | None = None
    """The smallest p that these kinds could have had, however alike: the share of the shuffles that bring the
    same regions together. Large where there are few pairs. None in a study of an earlier version too."""


def match_control(profiles: Sequence[RegionProfiles]) -> KindControl:
    """Tell how far the matching of regions can be believed; the same sections give the same numbers."""
    ordered = sorted(profiles, key=lambda one: one.sample)
    section = np.repeat(np.arange(len(ordered)), [len(one.sizes) for one in ordered])
    patients = [one.patient for one in ordered]
    unit = patients if len(set(patients)) > 1 else [one.sample for one in ordered]
    units = np.array(unit)[section] if ordered else np.array([], dtype=str)
    shown = match_kinds(ordered)
    kinds = np.array([kind for one in ordered for kind in shown[one.sample]], dtype=int)
    recurring = sum(len(set(units[kinds == kind])) > 1 for kind in kinds.tolist())

    learnt, held_out = (
        likeness(
            ordered,
            [one.halves[half] for one in ordered],
            [None if one.image_halves is None else one.image_halves[half] for one in ordered],
        )
        for half in (0, 1)
    )
    half_kinds = group(learnt)
    compared = np.triu(units[:, None] != units)
    same = compared & (half_kinds[:, None] == half_kinds)
    alike, shuffled, unmoved = None, np.zeros(0), 0
    if same.any():
        rng = np.random.default_rng(0)
        alike = float(held_out[same].mean())
        shuffled = np.zeros(_SHUFFLES)
        for turn in range(_SHUFFLES):
            mixed = _shuffled(half_kinds, section, rng)
            pairs = compared & (mixed[:, None] == mixed)
            # A shuffle that brings no two regions together has found nothing alike.
            shuffled[turn] = held_out[pairs].mean() if pairs.any() else 0.0
            unmoved += int(np.array_equal(pairs, same))
    as_alike = 0 if alike is None else int((shuffled.round(DECIMALS) >= round(alike, DECIMALS)).sum())
    return KindControl(
        rests_on=("expression", "image") if ordered and images_compare(ordered) else ("expression",),
        genes=len(compared_genes(ordered)),
        regions=len(kinds),
        recurring=recurring,
        pairs=int(same.sum()),
        alike=alike,
        shuffled=None if alike is None else float(shuffled.mean()),
        shuffled_high=None if alike is None else float(np.quantile(shuffled, 0.95)),
        p=None if alike is None else (1 + as_alike) / (1 + _SHUFFLES),
        least_p=None if alike is None else (1 + unmoved) / (1 + _SHUFFLES),
    )


def _shuffled(kinds: np.ndarray, section: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Kinds shuffled among the regions of each section."""
    order = np.lexsort((rng.random(len(kinds)), section))
    return kinds[order]


def write_control(study_dir: Path, control: KindControl) -> None:
    """Keep the control beside the portraits, whole or not at all; raises SencaError."""
    path = Path(study_dir) / keys.PORTRAIT_FOLDER / _FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(control))


def read_control(study_dir: Path) -> KindControl | None:
    """The control that was kept; None where there is none. Raises SencaError for a damaged file."""
    path = Path(study_dir) / keys.PORTRAIT_FOLDER / _FILE
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return KindControl(**told | {"rests_on": tuple(told["rests_on"])})
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise SencaError(
            f"{path}: not the control of matched regions ({error}); remove the file and make it again with "
            f"`senca report {study_dir}`"
        ) from None
