"""One fit read by several protocols: who is clustered, who is scored, how often a method is fitted."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score
from toys import toy_sample

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.fit.regions import renumber
from senca_ray.fit.scores import score
from senca_ray.methods import METHODS, RegionMethod, run
from senca_ray.methods.base import Embedding, Method
from senca_ray.methods.memory import forget_peak, peak_memory_mb
from senca_ray.methods.protocol import Protocol
from senca_ray.methods.run import Outcome, run_seeds

UNSCORED, DROPPED, SCORED = (Protocol(undetermined=u) for u in (keys.UNSCORED, keys.DROPPED, keys.SCORED))


class Toy(Method):
    """The label of a spot as a place on a line, some noise with it; notes with which seeds it was fitted."""

    name, title = "toy", "a toy"

    def __init__(self, far: float = 0.0, wants: str = "", breaks: bool = False) -> None:
        self.fitted: list[Any] = []
        self.far, self.wants, self.breaks = far, wants, breaks

    def missing(self) -> str:
        return self.wants

    def genes_needed(self, setting: Setting) -> int:
        return 1

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        self.fitted.append(seed)
        if self.breaks:
            raise RuntimeError("broken on purpose")
        return Embedding(self.line(sample, seed))

    def line(self, sample: Sample, seed: int) -> np.ndarray:
        """(N, 1): the band of a spot; `undetermined` ones at `far` where that is given."""
        band = np.minimum(sample.xy[:, 0] * 3 // 10, 2) + np.random.default_rng(seed).normal(0, 0.05, 80)
        unknown = sample.labels == keys.UNDETERMINED
        return np.where(unknown & (self.far > 0), self.far, band)[:, None]


class Fixed(Toy):
    """The same embedding for every seed, without any structure: k-means starts matter."""

    fixed_embedding = True
    clusterings = ("kmeans", "ward")

    def line(self, sample: Sample, seed: int) -> np.ndarray:
        return np.random.default_rng(0).uniform(size=(len(sample.xy), 6))


class Stripes(RegionMethod):
    """Finds k stripes across the bands; its embedding shows the bands."""

    name, title = "stripes", "a toy with regions of its own"
    clusterings = (keys.OWN, "ward")

    def __init__(self, refuses: int = 0) -> None:
        self.fitted: list[tuple[int, int]] = []
        self.refuses = refuses

    def genes_needed(self, setting: Setting) -> int:
        return 1

    def segment(self, sample: Sample, setting: Setting, seed: int, k: int) -> Embedding:
        self.fitted.append((seed, k))
        if k == self.refuses:
            raise SencaError(f"{k} regions cannot be")
        rows = sample.xy[:, 1].astype(int)
        return Embedding(Toy().line(sample, seed), regions=100 - np.minimum(rows, k - 1), peak_memory_mb=77.0)


def partly(sample: Sample, spots: int = 9) -> Sample:
    """The section with some more `undetermined` spots, in all three bands."""
    labels = sample.labels.copy()  # type: ignore[union-attr]
    labels[np.random.default_rng(1).permutation(len(labels))[:spots]] = keys.UNDETERMINED
    return dataclasses.replace(sample, labels=labels)


def read(method: Method, sample: Sample, *protocols: Protocol, seeds: tuple[int, ...] = (0,)) -> list[Any]:
    """Results of the only seed, or of all: [seed][protocol]."""
    found = list(run_seeds(method, sample, Setting(), seeds, protocols))
    return found[0] if len(seeds) == 1 else found


def assert_same(one: Outcome, other: Outcome) -> None:
    np.testing.assert_array_equal(one.regions, other.regions)
    assert one.k == other.k
    np.testing.assert_equal(one.scores, other.scores)


# --- Several readings of one fit ---------------------------------------------------------------------


def test_a_seed_is_fitted_once_and_read_by_every_protocol() -> None:
    sample, method = partly(toy_sample()), Toy()
    protocols = (UNSCORED, DROPPED, SCORED, Protocol("auto"), Protocol("fixed:5", "average"))
    found = read(method, sample, *protocols, seeds=(3, 1))
    assert method.fitted == [3, 1]
    for seed, results in zip((3, 1), found, strict=True):
        for protocol, result in zip(protocols, results, strict=True):
            assert_same(result, run.run(Toy(), sample, Setting(), seed, protocol))
    assert [r.k for r in found[0]] == [3, 3, 3, 3, 5]


def test_a_reading_that_fails_leaves_the_others_theirs() -> None:
    unlabelled = dataclasses.replace(toy_sample(), labels=None)
    failed, fine = read(Fixed(), unlabelled, Protocol("labels"), Protocol("fixed:2"))
    assert isinstance(failed, SencaError) and "needs labels" in str(failed)
    assert fine.k == 2


def test_what_a_fit_raises_is_the_result_of_every_reading() -> None:
    method = Toy(breaks=True)
    found = read(method, toy_sample(), UNSCORED, SCORED)
    assert [str(error) for error in found] == ["broken on purpose"] * 2 and method.fitted == [0]


def test_a_method_that_is_not_installed_is_never_called() -> None:
    for kind in (Toy, Fixed):
        method = kind(wants="not installed: `senca methods install toy`")
        found = read(method, toy_sample(), UNSCORED, SCORED, seeds=(0, 1))
        assert {type(error) for results in found for error in results} == {SencaError}
        assert {str(error) for results in found for error in results} == {method.wants}
        assert method.fitted == []
        with pytest.raises(SencaError, match="senca methods install"):
            run.run(method, toy_sample(), Setting(), 0, UNSCORED)


# --- Spots labelled undetermined ---------------------------------------------------------------------


def test_spots_left_out_of_the_score_are_clustered_and_draw_a_region_to_them() -> None:
    sample, method = partly(toy_sample()), Toy(far=100.0)
    unknown = sample.labels == keys.UNDETERMINED
    unscored, dropped, scored = read(method, sample, UNSCORED, DROPPED, SCORED)
    assert unscored.k == dropped.k == scored.k == 3, "undetermined never counts in k"
    # Far from all others, they take one of the three regions.
    assert len(set(unscored.regions[unknown])) == 1
    assert set(unscored.regions[unknown]).isdisjoint(unscored.regions[~unknown])
    assert unscored.scores[keys.ARI] < 0.9 and unscored.scores[keys.N_SCORED] == (~unknown).sum()
    np.testing.assert_array_equal(unscored.regions, scored.regions)
    # Without them every band is a region.
    assert dropped.scores[keys.ARI] == 1.0
    np.testing.assert_array_equal(dropped.regions == keys.NO_REGION, unknown)
    assert len(dropped.regions) == 80 and dropped.scores[keys.N_SPOTS] == (~unknown).sum()


def test_scored_they_are_a_label_like_any_other() -> None:
    sample = partly(toy_sample())
    unscored, scored = read(Toy(), sample, UNSCORED, SCORED)
    known = sample.labels != keys.UNDETERMINED
    assert scored.scores[keys.N_SCORED] == 80
    assert scored.scores[keys.ARI] == pytest.approx(adjusted_rand_score(sample.labels, scored.regions))
    assert unscored.scores[keys.ARI] == pytest.approx(
        adjusted_rand_score(sample.labels[known], unscored.regions[known])
    )
    assert keys.UNDETERMINED in scored.scores[keys.LABEL_F1]
    assert keys.UNDETERMINED not in unscored.scores[keys.LABEL_F1]
    for name in (keys.SILHOUETTE, keys.CHAOS, keys.PAS, keys.N_SPOTS):
        assert scored.scores[name] == unscored.scores[name]


def test_dropped_is_the_section_without_them() -> None:
    """Of every score, and of a k that is chosen, only the spots that are left know."""
    sample = partly(toy_sample(), 20)
    kept = sample.labels != keys.UNDETERMINED
    method = Fixed()
    for protocol in (DROPPED, dataclasses.replace(DROPPED, k_policy="auto", own=False)):
        (found,) = read(method, sample, protocol)
        (alone,) = read(_Only(method, kept), sample.subset(kept), protocol)
        np.testing.assert_array_equal(found.regions[kept], alone.regions)
        np.testing.assert_equal(found.scores, alone.scores)
        assert found.k == alone.k
        expected = score(sample.subset(kept), found.embedding.values[kept], found.regions[kept])
        np.testing.assert_equal(found.scores, expected)


class _Only(Fixed):
    """What another method finds, of some spots."""

    def __init__(self, method: Fixed, kept: np.ndarray) -> None:
        super().__init__()
        self.method, self.kept = method, kept

    def line(self, sample: Sample, seed: int) -> np.ndarray:
        return self.method.line(partly(toy_sample()), seed)[self.kept]


def test_without_undetermined_spots_or_labels_the_three_are_the_same() -> None:
    whole = toy_sample()
    labels = np.where(whole.labels == keys.UNDETERMINED, "cancer in situ", whole.labels)
    for sample in (dataclasses.replace(whole, labels=labels), dataclasses.replace(whole, labels=None)):
        three = [dataclasses.replace(p, k_policy="fixed:3") for p in (UNSCORED, DROPPED, SCORED)]
        first, *others = read(Toy(), sample, *three)
        for other in others:
            assert_same(first, other)
        assert (first.regions >= 0).all()


@pytest.mark.parametrize(
    "protocol",
    [UNSCORED, DROPPED, SCORED],
    ids=lambda p: p.undetermined,
)
def test_a_section_that_is_wholly_undetermined_says_so(protocol: Protocol) -> None:
    sample = dataclasses.replace(toy_sample(), labels=np.full(80, keys.UNDETERMINED))
    (found,) = read(Toy(), sample, protocol)
    assert isinstance(found, SencaError) and "every spot is undetermined" in str(found)


# --- Refinement --------------------------------------------------------------------------------------


def test_a_refined_reading_is_the_plain_one_after_its_neighbours_votes() -> None:
    refinement = pytest.importorskip("senca_ray.fit.refinement")

    sample = partly(toy_sample())
    protocols = [dataclasses.replace(p, refined=r) for p in (UNSCORED, DROPPED) for r in (False, True)]
    plain, refined, dropped, both = read(Fixed(), sample, *protocols)
    expected = refinement.refine(plain.regions, sample.nearest(4))
    np.testing.assert_array_equal(refined.regions, expected)
    assert (refined.regions != plain.regions).any(), "noise has something to refine"
    assert refined.scores[keys.PAS] < plain.scores[keys.PAS]
    # Neighbours that were dropped have no vote; the nearest of those left take their place.
    kept = sample.labels != keys.UNDETERMINED
    part = sample.subset(kept)
    np.testing.assert_array_equal(
        both.regions[kept], refinement.refine(dropped.regions[kept], part.nearest(4))
    )
    assert (both.regions[~kept] == keys.NO_REGION).all()


# --- A seed that matters to the clustering alone -------------------------------------------------------


def test_a_fixed_embedding_is_computed_once_and_k_chosen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []
    honest = run.choose_k

    def counted(policy: str, *more: Any) -> int:
        chosen.append(policy)
        return honest(policy, *more)

    monkeypatch.setattr(run, "choose_k", counted)
    sample, method = toy_sample(), Fixed()
    protocols = (Protocol("auto"), Protocol("fixed:7"), Protocol("auto", own=False))
    found = read(method, sample, *protocols, seeds=(5, 6, 7))
    assert method.fitted == [5] and chosen == ["auto", "fixed:7", "auto"]
    partitions = {results[1].regions.tobytes() for results in found}
    assert len(partitions) == 3, "k-means on noise starts elsewhere with every seed"
    alone = read(Fixed(), sample, *protocols, seeds=(6,))
    for one, other in zip(found[1], alone, strict=True):
        assert_same(one, other)


def test_a_fixed_embedding_that_fails_fails_every_seed_once() -> None:
    method = Fixed(breaks=True)
    found = read(method, toy_sample(), UNSCORED, SCORED, seeds=(0, 1, 2))
    assert method.fitted == [0]
    assert [str(error) for results in found for error in results] == ["broken on purpose"] * 6


# --- Regions of a method's own -------------------------------------------------------------------------


def own(**changes: Any) -> Protocol:
    return Protocol(**{"clustering": keys.OWN, "own": False} | changes)


def test_a_method_that_is_told_k_is_fitted_once_for_each_k() -> None:
    method = Stripes()
    protocols = (
        own(),
        own(undetermined=keys.SCORED),
        Protocol("fixed:3", own=False),
        own(k_policy="fixed:4"),
    )
    found = read(method, toy_sample(), *protocols, seeds=(0, 8))
    assert method.fitted == [(0, 3), (0, 4), (8, 3), (8, 4)]
    first, _, clustered, four = found[1]
    rows = toy_sample().xy[:, 1].astype(int)
    np.testing.assert_array_equal(first.regions, renumber(np.minimum(rows, 2)))
    assert [r.k for r in found[1]] == [3, 3, 3, 4] and len(set(four.regions)) == 4
    # Its embedding shows the bands, which other clusterings find.
    assert clustered.scores[keys.ARI] == 1.0 and first.scores[keys.ARI] < 0.1
    assert first.peak_memory_mb == 77.0


def test_by_default_its_own_regions_are_taken() -> None:
    (found,) = read(Stripes(), toy_sample(), Protocol())
    (named,) = read(Stripes(), toy_sample(), own())
    assert_same(found, named)


def test_a_k_that_it_cannot_do_fails_the_readings_with_that_k_alone() -> None:
    method = Stripes(refuses=4)
    four, three, again = read(method, toy_sample(), own(k_policy="fixed:4"), own(), own(k_policy="fixed:4"))
    assert str(four) == str(again) == "4 regions cannot be" and three.k == 3
    assert method.fitted == [(0, 4), (0, 3)]


def test_without_undetermined_spots_its_regions_are_numbered_by_size_again() -> None:
    """The largest region is 0, of the spots that are left as well."""
    sample = toy_sample()
    labels = sample.labels.copy()  # type: ignore[union-attr]
    labels[sample.xy[:, 1] >= 2] = keys.UNDETERMINED  # most of the largest stripe, which is the last one
    labels[(sample.xy[:, 1] == 2) & (sample.xy[:, 0] < 5)] = "invasive cancer"
    (found,) = read(Stripes(), dataclasses.replace(sample, labels=labels), own(undetermined=keys.DROPPED))
    kept = found.regions[labels != keys.UNDETERMINED]
    np.testing.assert_array_equal(kept, renumber(kept))


def test_regions_of_its_own_are_not_asked_of_a_method_without() -> None:
    (found,) = read(Toy(), toy_sample(), own())
    assert isinstance(found, SencaError) and "toy finds no regions of its own" in str(found)


def test_a_region_method_cannot_embed_without_k() -> None:
    with pytest.raises(SencaError, match="number of regions"):
        Stripes().embed(toy_sample(), Setting(), 0)


def test_chosen_without_labels_its_k_is_that_of_the_smoothed_components() -> None:
    sample, method = toy_sample(genes=200), Stripes()
    (found,) = read(method, sample, own(k_policy="auto"))
    (simple,) = read(METHODS["smoothed-pca"], sample, Protocol("auto"))
    assert found.k == simple.k == method.fitted[0][1]


# --- Memory --------------------------------------------------------------------------------------------


def test_a_fit_s_peak_is_not_that_of_the_one_before() -> None:
    forget_peak("cpu")
    before = peak_memory_mb()
    large = np.ones(40_000_000)  # 305 MB
    during = peak_memory_mb()
    assert during - before > 200
    del large
    forget_peak("cpu")
    after = peak_memory_mb()
    if after == during:
        pytest.skip("this system does not let a process forget its peak")
    assert during - after > 200
