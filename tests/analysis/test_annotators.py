"""Several annotators: their agreement by hand and by scikit-learn, and regions against each of them."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score
from toys import toy_sample

from senca_ray import keys
from senca_ray.analysis.annotators import (
    AGAINST_COLUMNS,
    AGREEMENT_COLUMNS,
    against_annotators,
    annotator_agreement,
    ceiling_remark,
    labels_by_annotator,
)
from senca_ray.errors import SencaError

U = keys.UNDETERMINED


def marks(text):
    """One letter a spot, '.' for undetermined."""
    return np.array([U if letter == "." else letter for letter in text])


spots = st.integers(0, 40)


@st.composite
def annotations(draw, annotators=3):
    length = draw(spots)
    one = st.lists(st.sampled_from("abc."), min_size=length, max_size=length)
    return {f"p{i}": marks(draw(one)) for i in range(annotators)}


def test_agreement_by_hand():
    # Four spots, both split 2 + 2 but across each other: no pair together in both. Index 0, expected
    # 2 * 2 / 6 = 2/3, most (2 + 2) / 2 = 2: (0 - 2/3) / (2 - 2/3) = -1/2.
    found = annotator_agreement({"main": marks("aabb.a"), "smith": marks("xyxyx.")})
    assert tuple(found.columns) == AGREEMENT_COLUMNS
    assert found.to_numpy().tolist() == [["main", "smith", pytest.approx(-0.5), 4]]


def test_other_names_for_the_same_regions_agree_fully():
    found = annotator_agreement({"main": marks("aabbcc"), "smith": marks("zzaabb")})
    assert found["ari"].tolist() == [1.0]


def test_all_pairs_each_over_its_own_spots():
    labels = {"main": marks("aabbcc"), "smith": marks("aabb.."), "jones": marks("..bbcc")}
    found = annotator_agreement(labels)
    assert found[["first", "second", "n"]].to_numpy().tolist() == [
        ["main", "smith", 4],
        ["main", "jones", 4],
        ["smith", "jones", 2],
    ]
    assert found["ari"].tolist()[:2] == [1.0, 1.0]
    assert math.isnan(found["ari"].iloc[2])  # one label each is left: decided beforehand


@given(annotations())
@settings(max_examples=60, deadline=None)
def test_agreement_is_that_of_scikit_learn_and_symmetric(labels):
    found = annotator_agreement(labels)
    turned = annotator_agreement(dict(reversed(labels.items())))
    by_pair = {frozenset(row[:2]): row[2:] for row in turned.to_numpy().tolist()}
    for first, second, ari, n in found.to_numpy().tolist():
        assert by_pair[frozenset((first, second))] == [pytest.approx(ari, nan_ok=True), n]
        both = (labels[first] != U) & (labels[second] != U)
        assert n == both.sum()
        a, b = labels[first][both], labels[second][both]
        if min(len(set(a)), len(set(b))) < 2:
            assert math.isnan(ari)
        else:
            assert ari == pytest.approx(adjusted_rand_score(a, b))


@given(annotations(2), st.permutations("abc"))
@settings(max_examples=40, deadline=None)
def test_renaming_labels_and_regions_changes_nothing(labels, names):
    renamed = dict(zip("abc", names, strict=True)) | {U: U}
    changed = {"p0": labels["p0"], "p1": np.array([renamed[mark] for mark in labels["p1"]], dtype="U20")}
    before, after = annotator_agreement(labels), annotator_agreement(changed)
    np.testing.assert_allclose(after["ari"], before["ari"])
    regions = np.arange(len(labels["p0"])) % 3
    before, after = against_annotators(regions, labels), against_annotators(2 - regions, changed)
    np.testing.assert_allclose(after["ari"], before["ari"])


def test_regions_against_every_annotator_on_the_spots_that_all_labelled():
    labels = {"main": marks("aaabbb.a"), "smith": marks("aabbbba."), "jones": marks("aaaabbba")}
    regions = np.array([0, 0, 0, 1, 1, keys.NO_REGION, 1, 1])
    found = against_annotators(regions, labels)
    assert tuple(found.columns) == AGAINST_COLUMNS
    main, smith, jones = [0, 0, 0, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1]
    expected = [adjusted_rand_score(one, [0, 0, 0, 1, 1]) for one in (main, smith, jones)]
    among = [adjusted_rand_score(a, b) for a, b in ((main, smith), (main, jones), (smith, jones))]
    assert found["annotator"].tolist() == ["main", "smith", "jones"]
    assert found["ari"].tolist() == pytest.approx(expected)
    assert found["n"].tolist() == [5, 5, 5]
    assert found["ceiling"].tolist() == pytest.approx([np.mean(among)] * 3)
    assert found["pairs"].tolist() == [3, 3, 3]
    assert "with two annotators" not in ceiling_remark(found).lower()
    assert f"ARI of {np.mean(among):.2f} over the 5 spots that all 3 annotators" in ceiling_remark(found)


def test_two_annotators_give_one_number_and_one_gives_no_ceiling():
    two = against_annotators(np.array([0, 0, 1, 1]), {"main": marks("aabb"), "smith": marks("aabb")})
    assert two["ceiling"].tolist() == [1.0, 1.0]
    assert "over the 4 spots that both annotators labelled" in ceiling_remark(two)
    assert "With two annotators this is a single number" in ceiling_remark(two)
    one = against_annotators(np.array([0, 0, 1, 1]), {"main": marks("aabb")})
    assert one["ari"].tolist() == [1.0]
    assert math.isnan(one["ceiling"].iloc[0])
    assert ceiling_remark(one) == ""


def test_annotators_without_a_spot_in_common():
    found = against_annotators(np.array([0, 0, 1, 1]), {"main": marks("ab.."), "smith": marks("..ab")})
    assert found["n"].tolist() == [0, 0]
    assert found["ari"].isna().all()
    assert ceiling_remark(found).startswith("No agreement between annotators can be told over the 0 spots")


def test_labels_of_a_section_by_annotator():
    sample = toy_sample()
    other = np.full(len(sample.xy), "a")
    assert list(labels_by_annotator(sample)) == ["main"]
    both = labels_by_annotator(dataclasses.replace(sample, annotations={"smith": other}))
    assert list(both) == ["main", "smith"]
    assert both["main"] is sample.labels
    assert both["smith"] is other
    assert labels_by_annotator(dataclasses.replace(sample, labels=None)) == {}


def test_labels_of_another_section():
    with pytest.raises(SencaError, match="main 4, smith 3 found; expected as many of each"):
        annotator_agreement({"main": marks("aabb"), "smith": marks("aab")})
    with pytest.raises(SencaError, match="regions 3, main 4 found"):
        against_annotators(np.zeros(3, dtype=int), {"main": marks("aabb")})
