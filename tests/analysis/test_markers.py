from __future__ import annotations

import io
import math
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from rich.console import Console
from scipy.sparse import csr_matrix
from scipy.stats import mannwhitneyu
from statsmodels.stats.multitest import multipletests

from senca_ray import keys
from senca_ray.analysis import markers as module
from senca_ray.analysis.markers import (
    LEAST_SPOTS,
    MARKER_COLUMNS,
    PSEUDO_SHARE,
    format_markers,
    log_expression,
    missing_genes,
    paper_markers,
    region_markers,
    top_markers,
)

TARGET = 1e4


def section(seed: int, spots: int = 60, genes: int = 30) -> tuple[csr_matrix, tuple[str, ...], np.ndarray]:
    """Counts, genes and totals of a section with few counts a gene, so with many ties."""
    rng = np.random.default_rng(seed)
    counts = csr_matrix(rng.poisson(rng.uniform(0.05, 2, genes), (spots, genes)).astype(np.int32))
    return counts, tuple(f"G{i}" for i in range(genes)), rng.integers(50, 90, spots)


def some_regions(seed: int, spots: int = 60, k: int = 4) -> np.ndarray:
    """Regions -1 (left out) to k - 1, every one with at least LEAST_SPOTS spots."""
    rest = np.random.default_rng(seed + 1).integers(-1, k, spots - LEAST_SPOTS * k)
    return np.concatenate([np.repeat(np.arange(k), LEAST_SPOTS), rest])


def by_gene(markers: pd.DataFrame, region: int) -> pd.DataFrame:
    return markers[markers["region"] == region].set_index("gene")


def test_three_spots_against_three_by_hand() -> None:
    """Values 1 2 2 inside, 0 0 1 outside: ranks 3.5 5.5 5.5 and 1.5 1.5 3.5, so U is 8.5 of 9.

    The variance with three pairs tied is 9 / 12 (7 - 3 * 6 / 30) = 4.8.
    """
    counts = csr_matrix(np.array([[1, 2, 2, 0, 0, 1]], np.int32).T)
    regions = np.array([5, 5, 5, 2, 2, 2])
    markers = region_markers(counts, ("G",), np.full(6, 100), 100.0, regions)
    assert list(markers.columns) == list(MARKER_COLUMNS) and list(markers["region"]) == [2, 5]
    outer, inner = markers.to_dict("records")
    assert inner["effect"] == pytest.approx(2 * 8.5 / 9 - 1)
    assert inner["p"] == pytest.approx(math.erfc((8.5 - 4.5) / math.sqrt(4.8) / math.sqrt(2)))
    assert inner["p_adjusted"] == inner["p"]
    pseudo = PSEUDO_SHARE * 100
    assert inner["log2_fold_change"] == pytest.approx(math.log2((5 / 3 + pseudo) / (1 / 3 + pseudo)))
    assert inner["fraction_in"] == pytest.approx(1) and inner["fraction_out"] == pytest.approx(1 / 3)
    assert (inner["n_spots_in"], inner["n_spots_out"]) == (3, 3)
    assert outer["effect"] == -inner["effect"] and outer["p"] == inner["p"]
    assert outer["log2_fold_change"] == pytest.approx(-inner["log2_fold_change"])


def test_equal_shares_of_different_totals_are_ties() -> None:
    counts = csr_matrix(np.array([[1, 2, 3, 7, 11, 13]], np.int32).T)
    totals = counts.toarray()[:, 0] * 7
    row = region_markers(counts, ("G",), totals, TARGET, np.array([0, 1, 0, 1, 0, 1])).iloc[0]
    assert (row["p"], row["effect"], row["log2_fold_change"]) == (1, 0, pytest.approx(0))


def test_the_numbers_are_scanpy_s(monkeypatch: pytest.MonkeyPatch) -> None:
    import scanpy
    from anndata import AnnData

    compiled = import_module("scanpy.tools._rank_genes_groups")
    for name in ("rankdata", "_tiecorrect"):
        # To compile them takes longer than all tests of this file.
        monkeypatch.setattr(compiled, name, getattr(compiled, name).__wrapped__)
    counts, genes, totals = section(0)
    regions = some_regions(0)
    kept = regions >= 0
    logs = np.column_stack(list(log_expression(counts, genes, totals, TARGET, genes).values()))[kept]
    obs = pd.DataFrame(
        {"region": pd.Categorical(regions[kept].astype(str))}, index=np.flatnonzero(kept).astype(str)
    )
    data = AnnData(logs, obs=obs, var=pd.DataFrame(index=list(genes)))
    scanpy.tl.rank_genes_groups(data, "region", method="wilcoxon", tie_correct=True, pts=True)
    theirs = scanpy.get.rank_genes_groups_df(data, None)
    markers = region_markers(counts, genes, totals, TARGET, regions)
    for region in range(4):
        ours = by_gene(markers, region)
        same = theirs[theirs["group"] == str(region)].set_index("names").loc[ours.index]
        np.testing.assert_allclose(ours["p"], same["pvals"], rtol=1e-4)  # theirs are float32 inside
        np.testing.assert_allclose(ours["p_adjusted"], same["pvals_adj"], rtol=1e-4)
        np.testing.assert_allclose(ours["fraction_in"], same["pct_nz_group"], rtol=1e-6)
        np.testing.assert_allclose(ours["fraction_out"], same["pct_nz_reference"], rtol=1e-6)
        assert (np.sign(ours["effect"]) == np.sign(same["scores"].round(6))).all()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_numbers_are_scipy_s_and_statsmodels(seed: int) -> None:
    counts, genes, totals = section(seed)
    regions = some_regions(seed)
    logs = np.column_stack(list(log_expression(counts, genes, totals, TARGET, genes).values()))
    markers = region_markers(counts, genes, totals, TARGET, regions)
    for region in range(4):
        ours, inside = by_gene(markers, region), regions == region
        outside = ~inside & (regions != keys.NO_REGION)
        theirs = mannwhitneyu(logs[inside], logs[outside], use_continuity=False, method="asymptotic", axis=0)
        varied = np.ptp(logs[inside | outside], axis=0) > 0
        np.testing.assert_allclose(ours["p"][varied], theirs.pvalue[varied], rtol=1e-9)
        np.testing.assert_allclose(
            ours["effect"], 2 * theirs.statistic / (inside.sum() * outside.sum()) - 1, atol=1e-12
        )
        adjusted = multipletests(ours["p"], method="fdr_bh")[1]
        np.testing.assert_allclose(ours["p_adjusted"], adjusted, rtol=1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_the_spots_does_not_matter(seed: int) -> None:
    counts, genes, totals = section(seed)
    regions = some_regions(seed)
    order = np.random.default_rng(seed).permutation(len(regions))
    shuffled = region_markers(counts[order], genes, totals[order], TARGET, regions[order])
    assert_frame_equal(shuffled, region_markers(counts, genes, totals, TARGET, regions), rtol=1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), names=st.permutations([0, 3, 8, 11]))
def test_renamed_regions_keep_their_numbers(seed: int, names: list[int]) -> None:
    counts, genes, totals = section(seed)
    regions = some_regions(seed)
    renamed = np.where(regions == keys.NO_REGION, keys.NO_REGION, np.array(names)[regions])
    first = region_markers(counts, genes, totals, TARGET, regions)
    second = region_markers(counts, genes, totals, TARGET, renamed)
    assert_frame_equal(
        first.assign(region=np.array(names)[first["region"]]).sort_values(
            "region", kind="stable", ignore_index=True
        ),
        second,
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), wanted=st.lists(st.integers(0, 40), min_size=1, max_size=8))
def test_wanted_genes_have_the_numbers_of_the_whole(seed: int, wanted: list[int]) -> None:
    """Genes 30 to 40 are not in the section; the family of the correction stays all 30."""
    counts, genes, totals = section(seed)
    regions = some_regions(seed)
    asked = [f"G{i}" for i in wanted]
    some = region_markers(counts, genes, totals, TARGET, regions, asked)
    there = [gene for gene in dict.fromkeys(asked) if gene in genes]
    assert list(some["gene"]) == there * 4
    every = region_markers(counts, genes, totals, TARGET, regions).set_index(["region", "gene"])
    rows = every.loc[list(zip(some["region"], some["gene"], strict=True))].reset_index()
    assert_frame_equal(some, rows[list(MARKER_COLUMNS)])
    missing = missing_genes(asked, genes)
    assert set(missing).isdisjoint(there) and set(missing) | set(there) == set(asked)


def test_missing_genes_are_named_once_in_order() -> None:
    assert missing_genes(["KRT2", "B", "LOR", "KRT2"], ("B", "C")) == ("KRT2", "LOR")


@pytest.mark.parametrize("values", [1, 60 * 7, 60 * 30])
def test_chunks_of_genes_do_not_matter(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, genes, totals = section(3)
    whole = region_markers(counts, genes, totals, TARGET, some_regions(3))
    monkeypatch.setattr(module, "_CHUNK_VALUES", values)
    largest, test = [], module._test

    def watched(scaled: np.ndarray, *rest: object) -> dict[str, np.ndarray]:
        largest.append(scaled.size)
        return test(scaled, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_test", watched)
    assert_frame_equal(region_markers(counts, genes, totals, TARGET, some_regions(3)), whole, rtol=1e-12)
    assert max(largest) <= max(values, 60)


def test_spots_without_a_region_are_as_if_not_there() -> None:
    counts, genes, totals = section(4)
    regions = some_regions(4)
    kept = np.flatnonzero(regions != keys.NO_REGION)
    assert len(kept) < len(regions)
    assert_frame_equal(
        region_markers(counts, genes, totals, TARGET, regions),
        region_markers(counts[kept], genes, totals[kept], TARGET, regions[kept]),
    )
    none = region_markers(counts, genes, totals, TARGET, np.full(60, keys.NO_REGION))
    assert none.empty and list(none.columns) == list(MARKER_COLUMNS)


@pytest.mark.parametrize("small", [1, 2])
def test_small_regions_are_described_and_not_tested(small: int) -> None:
    counts, genes, totals = section(5)
    regions = np.array([7] * small + [0] * 20 + [1] * (40 - small))
    markers = region_markers(counts, genes, totals, TARGET, regions)
    untested = markers[["p", "p_adjusted", "effect"]].isna().all(axis=1)
    assert set(markers.loc[untested, "region"]) == {7} and untested.sum() == len(genes)
    assert markers[["log2_fold_change", "fraction_in", "fraction_out"]].notna().all(axis=None)


def test_a_region_that_is_the_whole_section_has_nothing_outside() -> None:
    counts, genes, totals = section(6)
    markers = region_markers(counts, genes, totals, TARGET, np.zeros(60, int))
    unknown = ["p", "p_adjusted", "effect", "log2_fold_change", "fraction_out"]
    assert markers[unknown].isna().all(axis=None) and (markers["n_spots_out"] == 0).all()


def test_a_gene_without_a_count_is_no_marker_but_one_of_the_family() -> None:
    counts, genes, totals = section(7)
    dense = counts.toarray()
    dense[:, 4] = 0
    dense[some_regions(7) == 2, 9] += 5
    markers = by_gene(region_markers(csr_matrix(dense), genes, totals, TARGET, some_regions(7)), 2)
    assert markers.loc["G4", ["p", "p_adjusted", "effect", "log2_fold_change"]].tolist() == [1, 1, 0, 0]
    strongest = markers["p"].idxmin()
    assert strongest == "G9"
    assert markers.loc["G9", "p_adjusted"] == pytest.approx(len(genes) * markers.loc["G9", "p"])


def test_log_expression_is_what_samples_are_analysed_with() -> None:
    counts, genes, totals = section(8)
    levels = log_expression(counts, genes, totals, TARGET, ["G3", "absent", "G1", "G3"])
    assert list(levels) == ["G3", "G1"]
    np.testing.assert_allclose(levels["G1"], np.log1p(counts.toarray()[:, 1] / totals * TARGET))


def example() -> pd.DataFrame:
    """Region 0 has three markers, region 1 none, region 2 is too small to be tested."""
    rows = [
        *((0, "LOW", 0.5, 0.01), (0, "BEST", 0.9, 1e-9), (0, "MIDDLE", 0.7, 0.0004), (0, "DOWN", -0.9, 1e-9)),
        *((1, "BEST", -0.8, 1e-9), (1, "CHANCE", 0.9, 0.05), (2, "BEST", math.nan, math.nan)),
    ]
    frame = pd.DataFrame(rows, columns=["region", "gene", "effect", "p_adjusted"])
    spots = frame["region"].map({0: 700, 1: 40, 2: 2})
    known = {"n_spots_out": 42, "log2_fold_change": 2.0, "fraction_in": 0.5, "fraction_out": 0.253}
    return frame.assign(p=frame["p_adjusted"] / 2, n_spots_in=spots, **known)[list(MARKER_COLUMNS)]


def test_top_markers_are_the_significant_ones_of_highest_effect() -> None:
    top = top_markers(example(), n=2)
    assert list(zip(top["region"], top["gene"], strict=True)) == [(0, "BEST"), (0, "MIDDLE")]
    assert list(top_markers(example())["gene"]) == ["BEST", "MIDDLE", "LOW"]


def test_the_paper_s_table_is_whole() -> None:
    paper = paper_markers()
    assert list(paper.columns) == ["gene", "cluster", "p_value", "source"] and len(paper) == 25
    assert paper["cluster"].value_counts(sort=False).to_dict() == {0: 4, 1: 4, 2: 3, 3: 4, 4: 5, 5: 3, 6: 2}
    assert not paper.duplicated(["gene", "cluster"]).any() and (paper["p_value"] < 0.05).all()
    twice = paper.set_index(["gene", "cluster"])["p_value"]
    assert twice["KRT2", 0] == 4.771447e-11 and twice["KRT2", 3] == 5.668670e-14
    assert twice["CASP14", 6] == 3.996734e-03
    assert paper["source"].str.contains("Table 3").all()


def shown(markers: pd.DataFrame, **options: object) -> str:
    console = Console(width=80, file=(file := io.StringIO()))
    console.print(format_markers(markers, "A1: markers", **options))  # type: ignore[arg-type]
    return file.getvalue()


def test_a_terminal_of_80_columns_holds_the_table_and_what_to_think_of_it() -> None:
    text = shown(example(), top=5, missing=("KRT2", "LOR"))
    assert max(map(len, text.splitlines())) <= 80
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "0 (700 spots) BEST +0.900 1e-09 50% 25% 4.00" in lines
    assert "MIDDLE +0.700 4e-04 50% 25% 4.00" in lines and "LOW +0.500 0.010 50% 25% 4.00" in lines
    assert "1 (40 spots) none at adjusted p < 0.05" in lines
    prose = " ".join(lines)
    assert "DOWN" not in prose
    assert "fewer than 3 spots inside or outside: region 2." in prose
    assert "Not among the section's genes: KRT2, LOR." in prose


def test_without_a_limit_all_genes_are_shown() -> None:
    lines = [" ".join(line.split()) for line in shown(example()).splitlines()]
    assert "DOWN -0.900 1e-09 50% 25% 4.00" in lines and "CHANCE +0.900 0.050 50% 25% 4.00" in lines
    assert "2 (2 spots) BEST 50% 25% 4.00" in lines
    assert not any("none at" in line or "Not among" in line for line in lines)


def test_a_p_value_too_small_for_a_float_is_not_shown_as_zero() -> None:
    assert "<1e-300" in shown(example().assign(p_adjusted=0.0))
