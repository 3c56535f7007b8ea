"""Kinds of region: regions of different sections that express, and where known look, alike. Without labels.

Two regions are as alike as the cosine of their profiles (analysis/region_profiles.py); where all sections
have image features, the mean of that of expression and that of the image. Average linkage joins kinds while
their regions are on average more alike than LEAST_ALIKE. The price of comparing within sections: of a section
with two regions one profile is the other turned round, and tells less than those of a section with many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from senca_ray import keys
from senca_ray.analysis.portrait import Portrait
from senca_ray.analysis.region_profiles import RegionProfiles
from senca_ray.analysis.statistics import SIGNIFICANCE

COMPARED_GENES = 2000
"""Genes compared: of those that all sections have, the most dispersed on average over the sections."""
LEAST_ALIKE = 0.15
"""Regions less alike than this are of different kinds.

Measured on eight annotated sections of eight patients (HER2ST): the cosine of two random sets of spots was
below 0.07 in 99 of 100 pairs (with an image, four sections: 0.12), that of two regions with the same label
0.20 in the median. Chosen beside these labels: how well kinds agree with labels there tests nothing.
The mean silhouette, which needs no such number, asked for two kinds where the pathologist had six labels.
"""

DECIMALS = 9
"""Likeness is compared to this many, so that float noise breaks no tie."""

KIND_COLUMNS = ("kind", keys.SAMPLE, keys.PATIENT, "region", "spots", "share")
KIND_GENE_COLUMNS = ("kind", "gene", "sections", "of_sections", "effect")


def match_kinds(profiles: Sequence[RegionProfiles]) -> dict[str, tuple[int, ...]]:
    """Kind of every region of every section, by sample and region.

    Regions of one section share a kind where they are as alike as regions of two sections have to be: the
    same tissue in two pieces, or divided further than expression tells. Kinds are numbered by the number of
    patients that they occur in, then of spots, most first; the order of the sections does not matter.
    """
    ordered = sorted(profiles, key=lambda one: one.sample)
    kinds = group(likeness(ordered, [one.expression for one in ordered], [one.image for one in ordered]))
    kinds = _renumbered(kinds, ordered)
    edges = np.cumsum([0, *(len(one.sizes) for one in ordered)])
    found = {
        one.sample: tuple(int(kind) for kind in kinds[start:end])
        for one, start, end in zip(ordered, edges, edges[1:], strict=False)
    }
    return {one.sample: found[one.sample] for one in profiles}


def likeness(
    profiles: Sequence[RegionProfiles],
    expression: Sequence[np.ndarray],
    image: Sequence[np.ndarray | None],
) -> np.ndarray:
    """(R, R) likeness of all regions of all sections, -1 to 1."""
    genes = compared_genes(profiles)
    chosen = []
    for one, rows in zip(profiles, expression, strict=True):
        column = {gene: i for i, gene in enumerate(one.genes)}
        chosen.append(rows[:, [column[gene] for gene in genes]])
    alike = _cosine(np.concatenate(chosen)) if chosen else np.zeros((0, 0))
    if images_compare(profiles):
        alike = (alike + _cosine(np.concatenate([rows for rows in image if rows is not None]))) / 2
    return alike


def compared_genes(profiles: Sequence[RegionProfiles]) -> list[str]:
    """Of the genes that all sections have those of the best mean rank by dispersion; ties by name."""
    if not profiles:
        return []
    shared = set.intersection(*(set(one.genes) for one in profiles))
    ranks = dict.fromkeys(shared, 0.0)
    for one in profiles:
        for rank, gene in enumerate(one.genes):
            if gene in shared:
                ranks[gene] += rank / len(one.genes)  # sections keep different numbers of genes
    return sorted(shared, key=lambda gene: (round(ranks[gene], DECIMALS), gene))[:COMPARED_GENES]


def images_compare(profiles: Sequence[RegionProfiles]) -> bool:
    return all(one.image is not None for one in profiles) and len({one.encoder for one in profiles}) == 1


def _cosine(rows: np.ndarray) -> np.ndarray:
    """(R, R) cosines of rows (R, V); 0 with a row of zeros, the only region of its section."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    # In float64: thousands of products are summed, and ties must stay ties.
    unit = rows.astype(np.float64) / np.where(length > 0, length, 1)
    return np.asarray(unit @ unit.T)


def group(alike: np.ndarray) -> np.ndarray:
    """(R,) kind of each region, in any numbering."""
    if len(alike) < 2:
        return np.zeros(len(alike), dtype=int)
    apart = np.clip(1 - alike, 0, 2).round(DECIMALS)
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
