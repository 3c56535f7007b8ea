"""Kinds of region: regions of different sections that express, and where known look, alike. Without labels.

A region's profile is told within its section: every gene, and every image feature, is standardised over the
section's spots before a region's mean is taken. So what all spots of a section share, a batch, a stain or a
patient's own level of a gene, cancels, and a profile says how a region differs from the rest of its section.
Two regions are as alike as the cosine of their profiles; where all sections have image features, the mean of
that of expression and that of the image. Average linkage joins kinds while their regions are on average
more alike than LEAST_ALIKE. The price: of a section with two regions one profile is the other turned round,
and tells less than those of a section with many.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import csr_matrix
from scipy.spatial.distance import squareform

from senca_ray import keys
from senca_ray.analysis.portrait import Portrait
from senca_ray.analysis.statistics import SIGNIFICANCE
from senca_ray.data.sample import ALL_GENES, Sample
from senca_ray.errors import SencaError
from senca_ray.files import write_json

KIND_GENES = ALL_GENES
"""How many genes of a section to read: which of them are compared is decided over the cohort."""
COMPARED_GENES = 2000
"""Genes compared: of those that all sections have, the most dispersed on average over the sections."""
LEAST_ALIKE = 0.15
"""Regions less alike than this are of different kinds.

Measured on eight annotated sections of eight patients (HER2ST): the cosine of two random sets of spots was
below 0.07 in 99 of 100 pairs (with an image, four sections: 0.12), that of two regions with the same label
0.20 in the median. The mean silhouette, which needs no such number, asked for two kinds where the pathologist
had six labels.
"""

_FILE = "kinds.json"
_SHUFFLES = 999
_DECIMALS = 9
"""Likeness is compared to this many, so that float noise breaks no tie."""

KIND_COLUMNS = ("kind", keys.SAMPLE, keys.PATIENT, "region", "spots", "share")
KIND_GENE_COLUMNS = ("kind", "gene", "sections", "of_sections", "effect")


@dataclass(frozen=True)
class RegionProfiles:
    """What tells the k regions of one section apart: G genes, F image features."""

    sample: str
    patient: str
    encoder: str
    """Of the image features; those of different encoders are not compared."""
    genes: tuple[str, ...]
    """(G,) most dispersed first."""
    sizes: np.ndarray
    """(k,) spots of each region."""
    expression: np.ndarray
    """(k, G) float32 mean of the standardised log expression; 0 is the section's mean."""
    image: np.ndarray | None
    """(k, F) float32 mean of the standardised image features; None without an image."""
    halves: np.ndarray
    """(2, k, G) float32 as `expression`, over every other spot of each region and over the rest."""
    image_halves: np.ndarray | None
    """(2, k, F) float32."""


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


def region_profiles(sample: Sample, regions: np.ndarray) -> RegionProfiles:
    """Profile the regions of a section; regions (N,) from 0, keys.NO_REGION for spots left out.

    Raises SencaError for regions that are not the section's or not numbered without a gap.
    """
    if len(regions) != len(sample.xy):
        raise SencaError(
            f"{sample.name}: {len(regions)} regions found; expected one for each of the "
            f"{len(sample.xy)} spots; pass the regions of the same section"
        )
    clustered = regions != keys.NO_REGION
    own = regions[clustered].astype(int)
    sizes = np.bincount(own)
    if not sizes.all():
        raise SencaError(
            f"{sample.name}: no spot is in region {int(np.argmin(sizes))} of {len(sizes)}; expected regions "
            "numbered without a gap; renumber them"
        )
    scale = sample.target_sum / np.maximum(sample.total_counts[clustered], 1)
    expression = csr_matrix(sample.counts[clustered].multiply(scale[:, None])).log1p()
    # Every other spot of a region, in the section's order, so that both halves cover the region.
    turn = pd.Series(own).groupby(own).cumcount().to_numpy() % 2
    groups = [_members(own, np.ones(len(own), dtype=bool)), *(_members(own, turn == half) for half in (0, 1))]
    of_genes = _standardised_means(expression, groups)
    of_image = None
    if sample.image_features is not None:
        features = csr_matrix(sample.image_features[clustered].astype(np.float64))
        of_image = _standardised_means(features, groups)
    return RegionProfiles(
        sample=sample.name,
        patient=sample.patient,
        encoder=sample.encoder,
        genes=sample.genes,
        sizes=sizes,
        expression=of_genes[0],
        image=None if of_image is None else of_image[0],
        halves=of_genes[1:],
        image_halves=None if of_image is None else of_image[1:],
    )


def _members(regions: np.ndarray, chosen: np.ndarray) -> csr_matrix:
    """(k, N) weights that take the mean over the chosen spots of every region; a row of 0 without any."""
    shape = (int(regions.max(initial=-1)) + 1, len(regions))
    counts = np.bincount(regions[chosen], minlength=shape[0])
    spots = np.flatnonzero(chosen)
    return csr_matrix((1 / counts[regions[spots]], (regions[spots], spots)), shape=shape)


def _standardised_means(values: csr_matrix, groups: Sequence[csr_matrix]) -> np.ndarray:
    """(M, k, V) means of M groupings of the spots, of values (N, V) standardised over all spots.

    A constant column and a region without spots give 0: they tell nothing.
    """
    if not values.shape[0]:
        return np.zeros((len(groups), 0, values.shape[1]), dtype=np.float32)
    mean = np.asarray(values.mean(axis=0)).ravel()
    variance = np.asarray(values.multiply(values).mean(axis=0)).ravel() - mean**2
    # A variance that only rounding makes is none.
    varies = variance > 1e-9 * np.maximum(mean**2, 1e-12)
    spread = np.sqrt(np.where(varies, variance, 1))
    filled = [np.asarray(weights.sum(axis=1)) for weights in groups]
    means = [
        ((weights @ values).toarray() - mean * full) * varies / spread
        for weights, full in zip(groups, filled, strict=True)
    ]
    return np.stack(means).astype(np.float32)


def match_kinds(profiles: Sequence[RegionProfiles]) -> dict[str, tuple[int, ...]]:
    """Kind of every region of every section, by sample and region.

    Regions of one section share a kind where they are as alike as regions of two sections have to be: the
    same tissue in two pieces, or divided further than expression tells. Kinds are numbered by the number of
    patients that they occur in, then of spots, most first; the order of the sections does not matter.
    """
    ordered = sorted(profiles, key=lambda one: one.sample)
    kinds = _kinds(_likeness(ordered, [one.expression for one in ordered], [one.image for one in ordered]))
    kinds = _renumbered(kinds, ordered)
    edges = np.cumsum([0, *(len(one.sizes) for one in ordered)])
    found = {
        one.sample: tuple(int(kind) for kind in kinds[start:end])
        for one, start, end in zip(ordered, edges, edges[1:], strict=False)
    }
    return {one.sample: found[one.sample] for one in profiles}


def _likeness(
    profiles: Sequence[RegionProfiles],
    expression: Sequence[np.ndarray],
    image: Sequence[np.ndarray | None],
) -> np.ndarray:
    """(R, R) likeness of all regions of all sections, -1 to 1."""
    genes = _compared_genes(profiles)
    chosen = []
    for one, rows in zip(profiles, expression, strict=True):
        column = {gene: i for i, gene in enumerate(one.genes)}
        chosen.append(rows[:, [column[gene] for gene in genes]])
    alike = _cosine(np.concatenate(chosen)) if chosen else np.zeros((0, 0))
    if _images_compare(profiles):
        alike = (alike + _cosine(np.concatenate([rows for rows in image if rows is not None]))) / 2
    return alike


def _compared_genes(profiles: Sequence[RegionProfiles]) -> list[str]:
    """Of the genes that all sections have those of the best mean rank by dispersion; ties by name."""
    if not profiles:
        return []
    shared = set.intersection(*(set(one.genes) for one in profiles))
    ranks = dict.fromkeys(shared, 0.0)
    for one in profiles:
        for rank, gene in enumerate(one.genes):
            if gene in shared:
                ranks[gene] += rank / len(one.genes)  # sections keep different numbers of genes
    return sorted(shared, key=lambda gene: (round(ranks[gene], _DECIMALS), gene))[:COMPARED_GENES]


def _images_compare(profiles: Sequence[RegionProfiles]) -> bool:
    return all(one.image is not None for one in profiles) and len({one.encoder for one in profiles}) == 1


def _cosine(rows: np.ndarray) -> np.ndarray:
    """(R, R) cosines of rows (R, V); 0 with a row of zeros, the only region of its section."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    # In float64: thousands of products are summed, and ties must stay ties.
    unit = rows.astype(np.float64) / np.where(length > 0, length, 1)
    return np.asarray(unit @ unit.T)


def _kinds(alike: np.ndarray) -> np.ndarray:
    """(R,) kind of each region, in any numbering."""
    if len(alike) < 2:
        return np.zeros(len(alike), dtype=int)
    apart = np.clip(1 - alike, 0, 2).round(_DECIMALS)
    np.fill_diagonal(apart, 0)
    tree = linkage(squareform(apart, checks=False), "average")
    return np.asarray(fcluster(tree, 1 - LEAST_ALIKE, "distance"))


def _renumbered(kinds: np.ndarray, profiles: Sequence[RegionProfiles]) -> np.ndarray:
    patients = np.repeat([one.patient for one in profiles], [len(one.sizes) for one in profiles])
    spots = np.concatenate([np.zeros(0, dtype=int), *(one.sizes for one in profiles)])

    def place(kind: int) -> tuple[int, int, int]:
        its = kinds == kind
        return -len(set(patients[its])), -int(spots[its].sum()), int(np.argmax(its))

    order = sorted(set(kinds.tolist()), key=place)
    number = {kind: i for i, kind in enumerate(order)}
    return np.array([number[kind] for kind in kinds.tolist()], dtype=int)


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
        _likeness(
            ordered,
            [one.halves[half] for one in ordered],
            [None if one.image_halves is None else one.image_halves[half] for one in ordered],
        )
        for half in (0, 1)
    )
    half_kinds = _kinds(learnt)
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
    as_alike = 0 if alike is None else int((shuffled.round(_DECIMALS) >= round(alike, _DECIMALS)).sum())
    return KindControl(
        rests_on=("expression", "image") if ordered and _images_compare(ordered) else ("expression",),
        genes=len(_compared_genes(ordered)),
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


def kind_table(portraits: Mapping[str, Portrait], patients: Mapping[str, str]) -> pd.DataFrame:
    """A row a region that has a kind, with KIND_COLUMNS; share of its section's clustered spots."""
    rows = []
    for sample, portrait in portraits.items():
        shares = portrait.shares
        for region, kind in enumerate(portrait.kinds):
            spots = int((portrait.regions == region).sum())
            rows.append((kind, sample, patients[sample], region, spots, shares.get(region, 0.0)))
    table = pd.DataFrame(rows, columns=list(KIND_COLUMNS))
    return table.sort_values(["kind", keys.PATIENT, keys.SAMPLE, "region"], ignore_index=True)


def kind_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Share of each section's spots by kind, from a `kind_table`: kinds x samples, NaN for none."""
    return table.pivot_table("share", "kind", keys.SAMPLE, aggfunc="sum")


def kind_genes(portraits: Mapping[str, Portrait], n: int = 10) -> pd.DataFrame:
    """The strongest genes of every kind, at most `n`, with KIND_GENE_COLUMNS.

    A gene counts that is a marker, higher inside and significant, in more than half of the sections with the
    kind: `sections` of `of_sections`. Ordered by that share, then by mean effect over these sections.
    """
    frames = []
    sections: dict[int, set[str]] = {}
    for sample, portrait in portraits.items():
        kind_of = dict(enumerate(portrait.kinds))
        for kind in portrait.kinds:
            sections.setdefault(kind, set()).add(sample)
        markers = portrait.markers
        higher = markers[(markers["p_adjusted"] < SIGNIFICANCE) & (markers["effect"] > 0)]
        higher = higher[higher["region"].isin(kind_of)]
        # Two regions of one kind: the section counts once, with the stronger effect.
        kinds = higher["region"].map(kind_of).astype(int)
        frames.append(higher.assign(kind=kinds).groupby(["kind", "gene"])["effect"].max().reset_index())
    if not frames:
        return pd.DataFrame(columns=list(KIND_GENE_COLUMNS))
    found = pd.concat(frames).groupby(["kind", "gene"])["effect"].agg(["size", "mean"]).reset_index()
    found = found.rename(columns={"size": "sections", "mean": "effect"})
    found["of_sections"] = [len(sections[kind]) for kind in found["kind"]]
    found = found[2 * found["sections"] > found["of_sections"]]
    ordered = found.sort_values(["kind", "sections", "effect", "gene"], ascending=[True, False, False, True])
    return ordered.groupby("kind").head(n).reset_index(drop=True)[list(KIND_GENE_COLUMNS)]
