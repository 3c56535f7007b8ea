"""Several annotators of one section: how far they agree, which is the ceiling for any method's regions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from senca_ray import keys
from senca_ray.data.sample import Sample
from senca_ray.data.section import MAIN_ANNOTATOR
from senca_ray.data.shards import Display
from senca_ray.errors import SencaError

AGREEMENT_COLUMNS = ("first", "second", keys.ARI, "n")
AGAINST_COLUMNS = ("annotator", keys.ARI, "n", "ceiling", "pairs")


def labels_by_annotator(section: Sample | Display) -> dict[str, np.ndarray]:
    """(N,) labels of every annotator of a section, first those that scores use; empty without labels."""
    if section.labels is None:
        return {}
    return {MAIN_ANNOTATOR: section.labels, **section.annotations}


def annotator_agreement(labels: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """ARI of every pair of annotators over the n spots that both labelled; columns AGREEMENT_COLUMNS.

    Shapes: labels (N,) str each. A spot that either left undetermined is left out. NaN where one of the two
    set fewer than two labels there. Raises SencaError for unequal lengths.
    """
    _check_lengths({name: len(values) for name, values in labels.items()})
    rows = []
    for first, second in itertools.combinations(labels, 2):
        both = _determined(labels[first]) & _determined(labels[second])
        mine, others = labels[first][both], labels[second][both]
        ari = _ari(mine, others) if len(np.unique(others)) > 1 else math.nan
        rows.append((first, second, ari, len(mine)))
    return pd.DataFrame(rows, columns=list(AGREEMENT_COLUMNS))


def against_annotators(regions: np.ndarray, labels: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """ARI of regions with every annotator, beside the ceiling: a row an annotator, AGAINST_COLUMNS.

    All of it over the same n spots, those that are in a region and that all annotators labelled; so these
    numbers differ from the scores of a study, which use all that the main annotator labelled. `ceiling` is
    the mean ARI over the `pairs` of annotators, NaN with one.
    Shapes: regions (N,) integers, keys.NO_REGION for spots left out; labels (N,) str each. Raises SencaError
    for unequal lengths.
    """
    _check_lengths({"regions": len(regions)} | {name: len(values) for name, values in labels.items()})
    shared = np.logical_and.reduce([regions != keys.NO_REGION, *map(_determined, labels.values())])
    kept = {name: values[shared] for name, values in labels.items()}
    among = annotator_agreement(kept)[keys.ARI].dropna()
    rows = [(name, _ari(values, regions[shared]), int(shared.sum())) for name, values in kept.items()]
    table = pd.DataFrame(rows, columns=list(AGAINST_COLUMNS[:3]))
    return table.assign(ceiling=float(among.mean()) if len(among) else math.nan, pairs=len(among))


def ceiling_remark(against: pd.DataFrame) -> str:
    """What the table of `against_annotators` can and cannot say, in words; empty with one annotator."""
    if len(against) < 2:
        return ""
    pairs, ceiling, spots = (against[name].iloc[0] for name in ("pairs", "ceiling", "n"))
    who = "both" if len(against) == 2 else f"all {len(against)}"
    where = f"over the {spots:,} spots that {who} annotators labelled"
    if not pairs:
        return f"No agreement between annotators can be told {where}."
    said = (
        f"The annotators agree with each other to an ARI of {ceiling:.2f} {where}. Regions that agree with "
        "them as well cannot be told from another annotator's; what lies above says nothing about the tissue."
    )
    if len(against) == 2:
        said += " With two annotators this is a single number: how far others would differ is not known."
    return said


def _determined(labels: np.ndarray) -> np.ndarray:
    return np.asarray(labels != keys.UNDETERMINED)


def _ari(labels: np.ndarray, other: np.ndarray) -> float:
    """NaN with a single label, as in scores: every agreement is decided beforehand then."""
    return float(adjusted_rand_score(labels, other)) if len(np.unique(labels)) > 1 else math.nan


def _check_lengths(lengths: Mapping[str, int]) -> None:
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise SencaError(f"spots: {found} found; expected as many of each; pass those of one section")
