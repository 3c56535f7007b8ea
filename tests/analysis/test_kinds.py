"""Kinds of region: known programmes are found again, noise is told to be noise, nothing depends on labels."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.metrics import adjusted_rand_score
from toys import grid

from senca_ray import keys
from senca_ray.analysis.kind_control import _shuffled, match_control, read_control, write_control
from senca_ray.analysis.kinds import (
    COMPARED_GENES,
    KIND_COLUMNS,
    KIND_GENE_COLUMNS,
    LEAST_ALIKE,
    kind_genes,
    kind_shares,
    kind_table,
    match_kinds,
)
from senca_ray.analysis.markers import MARKER_COLUMNS
from senca_ray.analysis.portrait import Portrait
from senca_ray.analysis.region_profiles import region_profiles
from senca_ray.data.graph import nearest_neighbors
from senca_ray.data.sample import Sample
from senca_ray.data.synthetic_section import simulate_section
from senca_ray.errors import SencaError

GENES = 400


def section(name, programmes, *, seed=0, image=(), spots=40, strength=1.0, patient=None, genes=GENES):
    """A section whose region i expresses programme programmes[i] (20 genes), and looks like image[i]."""
    rng = np.random.default_rng([seed, *name.encode()])
    regions = np.repeat(np.arange(len(programmes)), spots).astype(np.int16)
    rates = np.tile(rng.gamma(2.0, 1.0, genes), (len(regions), 1))  # the section's own level of each gene
    for region, programme in enumerate(programmes):
        own = slice(20 * programme, 20 * programme + 20)
        rates[regions == region, own] *= np.exp(strength)
    counts = csr_matrix(rng.poisson(rates * rng.lognormal(0, 0.3, (len(regions), 1))).astype(np.int32))
    features = None
    if len(image):
        looks = np.eye(12)[np.asarray(image)][regions]
        features = (looks * 3 + rng.normal(size=looks.shape) + rng.normal(size=12)).astype(np.float32)
    xy = grid(spots, len(programmes))
    sample = Sample(
        name=name,
        patient=patient or name[0],
        label_source=keys.UNLABELLED,
        fingerprint="0" * 64,
        encoder="toy" if len(image) else "none",
        genes=tuple(f"G{i}" for i in range(genes)),
        counts=counts,
        total_counts=np.asarray(counts.sum(axis=1)).ravel(),
        target_sum=1e4,
        xy=xy,
        neighbors=nearest_neighbors(xy, 4),
        image_features=features,
        labels=None,
    )
    return sample, regions


def noise(name, *, seed=0):
    """A section whose regions are any spots."""
    sample, regions = section(name, [0] * 4, seed=seed, strength=0.0)
    return sample, regions


COHORT = {"A1": (0, 1, 2), "A2": (0, 1, 2), "B1": (1, 0, 3), "C1": (2, 0, 1, 3), "D1": (4, 0, 5)}


@pytest.fixture(scope="module")
def profiles():
    return [region_profiles(*section(name, programmes)) for name, programmes in COHORT.items()]


def test_regions_of_one_programme_are_of_one_kind_whatever_their_number_in_the_section(profiles):
    kinds = match_kinds(profiles)
    truth = [programme for programmes in COHORT.values() for programme in programmes]
    assert adjusted_rand_score(truth, [kind for name in COHORT for kind in kinds[name]]) == 1


def test_kinds_are_numbered_by_patients_then_spots(profiles):
    kinds = match_kinds(profiles)
    # Programme 0 occurs in four patients, 1 in three; 2 and 3 in two, 2 in one section more; 4 and 5 in one.
    assert kinds["C1"] == (2, 0, 1, 3)
    assert kinds["D1"] == (4, 0, 5)


def test_a_kind_of_more_patients_comes_before_one_of_more_spots():
    often = [section(name, (0, 2, 4)) for name in ("A1", "A2", "A3")]
    both = [section("A4", (1, 3, 4), spots=20), section("B1", (1, 3, 5), spots=20)]
    kinds = match_kinds([region_profiles(*one) for one in [*often, *both]])
    assert sorted(kinds["B1"][:2]) == [0, 1]  # 40 spots each in two patients
    assert sorted(kinds["A1"]) == [2, 3, 4]  # 120 spots or more, in one


def test_order_of_the_sections_does_not_matter(profiles):
    kinds = match_kinds(profiles)
    assert list(kinds) == list(COHORT)
    assert match_kinds(profiles[::-1]) == kinds
    assert match_control(profiles[::-1]) == match_control(profiles)


@given(st.integers(0, 5))
@settings(max_examples=6, deadline=None)
def test_numbering_of_the_regions_does_not_matter(turn):
    sections = {name: section(name, programmes) for name, programmes in COHORT.items()}
    profiles, moved = [], []
    for sample, regions in sections.values():
        names = np.random.default_rng(turn).permutation(regions.max() + 1)
        profiles.append(region_profiles(sample, regions))
        moved.append((region_profiles(sample, names[regions]), names))
    kinds, again = match_kinds(profiles), match_kinds([profile for profile, _ in moved])
    pairs = {
        (again[profile.sample][name], kind)
        for profile, names in moved
        for name, kind in zip(names, kinds[profile.sample], strict=True)
    }
    assert len(pairs) == len({kind for _, kind in pairs}) == len({kind for kind, _ in pairs})


def test_the_same_tissue_in_two_regions_of_a_section_is_one_kind():
    sections = {"A1": (0, 1, 0, 2), "B1": (0, 1, 2)}
    kinds = match_kinds([region_profiles(*section(name, some)) for name, some in sections.items()])
    assert kinds["A1"][0] == kinds["A1"][2] == kinds["B1"][0]
    assert len({*kinds["A1"], *kinds["B1"]}) == 3


def test_image_tells_apart_what_expresses_alike_where_all_sections_have_one():
    programmes, looks = (0, 0, 1), (0, 1, 2)
    sections = [section(name, programmes, image=looks) for name in ("A1", "B1", "C1")]
    kinds = match_kinds([region_profiles(*one) for one in sections])
    assert len(set(kinds["A1"])) == 3
    assert kinds["A1"] == kinds["B1"] == kinds["C1"]
    without = dataclasses.replace(sections[0][0], image_features=None)
    mixed = [region_profiles(without, sections[0][1]), *(region_profiles(*one) for one in sections[1:])]
    kinds = match_kinds(mixed)
    assert kinds["A1"][0] == kinds["A1"][1] == kinds["B1"][0] != kinds["B1"][2]
    assert match_control(mixed).rests_on == ("expression",)


def test_images_of_different_encoders_are_not_compared():
    sections = [section(name, (0, 1), image=(0, 1)) for name in ("A1", "B1")]
    profiles = [region_profiles(*one) for one in sections]
    assert match_control(profiles).rests_on == ("expression", "image")
    other = dataclasses.replace(profiles[1], encoder="another")
    assert match_control([profiles[0], other]).rests_on == ("expression",)


def test_a_sections_own_level_of_genes_and_stain_cancels():
    sample, regions = section("A1", (0, 1, 2), image=(0, 1, 2))
    stained = dataclasses.replace(sample, image_features=sample.image_features * 7 + 100)
    plain, changed = region_profiles(sample, regions), region_profiles(stained, regions)
    np.testing.assert_allclose(changed.image, plain.image, atol=1e-3)
    weights = plain.sizes / plain.sizes.sum()
    np.testing.assert_allclose(weights @ plain.expression, 0, atol=1e-6)


def test_profiles_are_means_of_standardised_log_expression():
    sample, regions = section("A1", (0, 1, 2), image=(0, 1, 2))
    regions = regions.copy()
    regions[::7] = keys.NO_REGION
    profile = region_profiles(sample, regions)
    kept = regions != keys.NO_REGION
    logs = sample.expression(GENES)[kept].astype(np.float64)
    scores = (logs - logs.mean(axis=0)) / logs.std(axis=0)
    for region in range(3):
        inside = np.flatnonzero(regions[kept] == region)
        np.testing.assert_allclose(profile.expression[region], scores[inside].mean(axis=0), atol=1e-4)
        np.testing.assert_allclose(profile.halves[0, region], scores[inside[::2]].mean(axis=0), atol=1e-4)
        np.testing.assert_allclose(profile.halves[1, region], scores[inside[1::2]].mean(axis=0), atol=1e-4)
        assert profile.sizes[region] == len(inside)
    assert profile.image.shape == (3, 12)
    assert profile.image_halves.shape == (2, 3, 12)


def test_constant_genes_tell_nothing():
    sample, regions = section("A1", (0, 1))
    silent = sample.counts.toarray()
    silent[:, 5] = 0
    profile = region_profiles(dataclasses.replace(sample, counts=csr_matrix(silent)), regions)
    assert not profile.expression[:, 5].any()
    assert np.isfinite(profile.expression).all()


@pytest.mark.parametrize("patients", [("A", "B", "C", "D"), ("A", "A", "A", "A")])
def test_noise_is_told_to_be_noise(patients):
    found = []
    for seed in range(5):
        names = [f"{patient}{i}" for i, patient in enumerate(patients)]
        control = match_control([region_profiles(*noise(name, seed=seed)) for name in names])
        assert control.regions == 16
        found.append(control)
    assert sum(control.recurring for control in found) <= 0.2 * 5 * 16
    assert all(control.p is None or control.p > 0.01 for control in found)


def test_kinds_are_shuffled_inside_each_section():
    sections, kinds = np.repeat([0, 1, 2], [3, 4, 1]), np.array([0, 1, 2, 3, 4, 5, 6, 7])
    mixed = [_shuffled(kinds, sections, np.random.default_rng(seed)) for seed in range(200)]
    assert all(set(one[:3]) == {0, 1, 2} and set(one[3:7]) == {3, 4, 5, 6} and one[7] == 7 for one in mixed)
    assert len({tuple(one[:3]) for one in mixed}) == 6
    assert len({tuple(one[3:7]) for one in mixed}) == 24


def test_what_recurs_is_told_to_recur(profiles):
    control = match_control(profiles)
    assert control.regions == 16
    assert control.recurring == 14  # all but programmes 4 and 5
    assert control.pairs > 0
    assert control.alike > 2 * LEAST_ALIKE > abs(control.shuffled)
    assert control.shuffled < control.shuffled_high < control.alike
    assert control.p == pytest.approx(0.001, abs=1e-3)


def test_p_of_noise_that_is_matched_all_the_same_spreads_over_its_range(monkeypatch):
    # Everything that is a little alike is matched, as a matching without a threshold would.
    monkeypatch.setattr("senca_ray.analysis.kinds.LEAST_ALIKE", 0.0)
    controls = [
        match_control([region_profiles(*noise(name, seed=seed)) for name in ("A1", "B1", "C1", "D1")])
        for seed in range(12)
    ]
    p = np.array([control.p for control in controls])
    assert all(control.pairs > 5 for control in controls)
    assert 0.2 < p.mean() < 0.8
    assert (p < 0.05).sum() <= 3


def test_one_section_and_one_region_and_none():
    alone = region_profiles(*section("A1", (0, 1, 2)))
    assert sorted(match_kinds([alone])["A1"]) == [0, 1, 2]
    control = match_control([alone])
    assert (control.recurring, control.pairs, control.alike, control.p) == (0, 0, None, None)
    single = region_profiles(*section("B1", (0,)))
    assert match_kinds([single]) == {"B1": (0,)}
    assert len(set(match_kinds([alone, single])["A1"])) == 3
    assert match_kinds([]) == {}
    assert match_control([]).regions == 0
    sample, regions = section("C1", (0, 1))
    nothing = region_profiles(sample, np.full_like(regions, keys.NO_REGION))
    assert match_kinds([alone, nothing])["C1"] == ()


def test_a_region_of_one_spot_is_a_region():
    sample, regions = section("A1", (0, 1))
    regions = regions.copy()
    regions[0] = 2
    profile = region_profiles(sample, regions)
    assert profile.sizes.tolist() == [39, 40, 1]
    assert len(match_kinds([profile, region_profiles(*section("B1", (0, 1)))])["A1"]) == 3
    match_control([profile, profile])


def test_only_genes_of_all_sections_are_compared_the_most_dispersed_first():
    some, more = section("A1", (0, 1, 2)), section("B1", (0, 1, 2), genes=GENES + 10)
    first, second = region_profiles(*some), region_profiles(*more)
    assert match_control([first, second]).genes == GENES
    other = dataclasses.replace(second, genes=tuple(f"X{i}" for i in range(GENES + 10)))
    assert match_control([first, other]).genes == 0
    assert len({*match_kinds([first, other])["A1"], *match_kinds([first, other])["B1"]}) == 6
    many = [region_profiles(*section(name, (0, 1), genes=COMPARED_GENES + 50)) for name in ("A1", "B1")]
    assert match_control(many).genes == COMPARED_GENES


def test_simulated_sections_of_two_patients(monkeypatch):
    """Connective and adipose tissue express alike by construction and so are one kind without an image."""
    monkeypatch.setattr("senca_ray.data.synthetic_section.paint", lambda *_: None)  # slow, not looked at
    profiles, truth = [], []
    for patient, number in ((0, 0), (1, 0), (1, 1)):
        simulated = simulate_section(patient, number)
        names = sorted(set(simulated.regions.tolist()))
        sample, _ = section(simulated.sample, (0,), spots=len(simulated.xy))
        counts = csr_matrix(simulated.counts)
        sample = dataclasses.replace(
            sample,
            counts=counts,
            total_counts=simulated.counts.sum(axis=1),
            genes=simulated.genes,
            xy=simulated.xy.astype(float),
        )
        profiles.append(region_profiles(sample, np.searchsorted(names, simulated.regions)))
        truth += [name.replace("adipose", "connective") for name in names]
    kinds = match_kinds(profiles)
    assert adjusted_rand_score(truth, [kind for one in kinds.values() for kind in one]) == 1
    assert match_control(profiles).p == 0.001  # no shuffle of 999 is as alike


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        (np.zeros(3, dtype=int), "3 regions found; expected one for each of the 80 spots"),
        (np.repeat([0, 2], 40), "no spot is in region 1 of 3; expected regions numbered without a gap"),
    ],
)
def test_regions_of_another_section(regions, message):
    sample, _ = section("A1", (0, 1))
    with pytest.raises(SencaError, match=message):
        region_profiles(sample, regions)


def portrait(sample, kinds, markers=(), sizes=None):
    """`markers` are (region, gene, effect, p_adjusted)."""
    regions = np.repeat(np.arange(len(kinds)), sizes or [10] * len(kinds)).astype(np.int16)
    frame = pd.DataFrame(markers, columns=["region", "gene", "effect", "p_adjusted"])
    frame = frame.reindex(columns=list(MARKER_COLUMNS))
    return Portrait(
        sample=sample, method="senca", setting="x", regions=regions, n_seeds=3, kinds=kinds, markers=frame
    )


def test_table_of_kinds():
    portraits = {
        "B1": portrait("B1", (1, 0), sizes=[30, 10]),
        "A1": portrait("A1", (0, 0, 1), sizes=[5, 5, 10]),
        "A2": portrait("A2", ()),
    }
    table = kind_table(portraits, {"A1": "A", "A2": "A", "B1": "B"})
    assert list(table.columns) == list(KIND_COLUMNS)
    assert table.to_numpy().tolist() == [
        [0, "A1", "A", 0, 5, 0.25],
        [0, "A1", "A", 1, 5, 0.25],
        [0, "B1", "B", 1, 10, 0.25],
        [1, "A1", "A", 2, 10, 0.5],
        [1, "B1", "B", 0, 30, 0.75],
    ]
    assert list(kind_table({}, {}).columns) == list(KIND_COLUMNS)


def test_genes_of_a_kind_are_markers_in_most_of_its_sections():
    portraits = {
        "A1": portrait(
            "A1",
            (0, 1, 0),
            [
                (0, "ALL", 0.5, 1e-4),
                (2, "ALL", 0.9, 1e-4),
                (0, "MOST", 0.8, 1e-4),
                (0, "HALF", 0.8, 1e-4),
                (1, "OTHER", 0.7, 1e-4),
            ],
        ),
        "B1": portrait(
            "B1", (0, 1), [(0, "ALL", 0.5, 1e-4), (0, "MOST", 0.6, 1e-4), (1, "OTHER", 0.5, 1e-4)]
        ),
        "D1": portrait("D1", (2, 1), [(1, "OTHER", 0.3, 1e-4)]),
        "E1": portrait("E1", (2, 1), [(0, "HALF", 0.3, 1e-4), (1, "BOTH", 0.3, 1e-4)]),
        "C1": portrait("C1", (0,), [(0, "ALL", 0.4, 1e-4), (0, "WEAK", 0.9, 0.2), (0, "LOW", -0.9, 1e-9)]),
    }
    found = kind_genes(portraits)
    assert list(found.columns) == list(KIND_GENE_COLUMNS)
    assert found.drop(columns="effect").to_numpy().tolist() == [
        [0, "ALL", 3, 3],
        [0, "MOST", 2, 3],
        [1, "OTHER", 3, 4],
    ]
    assert found["effect"].tolist() == pytest.approx([0.6, 0.7, 0.5])
    assert kind_genes(portraits, n=1)["gene"].tolist() == ["ALL", "OTHER"]
    assert list(kind_genes({}).columns) == list(KIND_GENE_COLUMNS)
    assert len(kind_genes({"A1": portrait("A1", (0, 1))})) == 0


def test_control_is_kept_beside_the_portraits(tmp_path, profiles):
    assert read_control(tmp_path) is None
    for control in (match_control(profiles), match_control(profiles[:1])):
        write_control(tmp_path, control)
        assert read_control(tmp_path) == control
    path = tmp_path / keys.PORTRAIT_FOLDER / "kinds.json"
    for damage in ("{", "[]", json.dumps({"rests_on": []}), json.dumps({"rests_on": ["x"], "other": 1})):
        path.write_text(damage)
        with pytest.raises(SencaError, match=r"kinds\.json: not the control of matched regions"):
            read_control(tmp_path)


def test_few_pairs_cannot_have_a_small_p_however_alike():
    sections = {"A1": (0, 1, 2, 3), "B1": (0, 4, 5, 6)}
    control = match_control([region_profiles(*section(name, own)) for name, own in sections.items()])
    # One pair: of the 4 x 4 ways to shuffle its kind to a region of each section one is the same again.
    assert control.pairs == 1
    assert control.least_p == pytest.approx(1 / 16, abs=0.03)
    assert control.p >= control.least_p


def test_no_p_is_below_the_least_that_could_be_reached(profiles):
    for control in (match_control(profiles), match_control(profiles[:2])):
        assert control.p >= control.least_p
    assert match_control(profiles).least_p == 0.001  # many pairs: no shuffle brings all of them together
    assert match_control(profiles[:1]).least_p is None


def test_shares_of_a_kind_are_added_up_within_a_section():
    regions = np.array([0, 0, 0, 1, 1, 2], dtype=np.int16)
    portraits = {
        "A1": Portrait("A1", "senca", "default", regions, n_seeds=1, kinds=(0, 1, 0)),
        "B1": Portrait("B1", "senca", "default", regions, n_seeds=1, kinds=(0, 0, 0)),
    }
    shares = kind_shares(kind_table(portraits, {"A1": "A", "B1": "B"}))
    assert shares.loc[0].tolist() == pytest.approx([4 / 6, 1])
    assert shares.loc[1, "A1"] == pytest.approx(2 / 6) and np.isnan(shares.loc[1, "B1"])
