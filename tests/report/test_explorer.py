from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from portrait_toys import LEAVES, toy_portrait
from scipy.cluster.hierarchy import linkage
from study_folder import LABELS

from senca_ray import keys
from senca_ray.analysis.portrait import Portrait, Tree
from senca_ray.data.shards import Display
from senca_ray.report.explorer import Explorer, explorer, region_codes
from senca_ray.report.maps import NOT_CLUSTERED, PALETTE, SectionMaps, section_maps
from senca_ray.report.tree import tree_content
from senca_ray.report.view import StudyView, load_study


@pytest.fixture(scope="module")
def view(finished: Path) -> StudyView:
    return load_study(finished)


def _panel(view: StudyView, sample: str, portrait: Portrait) -> tuple[Explorer, dict[str, Any]]:
    found = explorer(view.displays[sample], portrait, section_maps(view, sample), view.labels)
    return found, json.loads(str(found.data))


def _toy(view: StudyView, sample: str, **changed: Any) -> Portrait:
    return dataclasses.replace(toy_portrait(sample, view.displays[sample].xy), **changed)


def test_layers_are_all_that_there_is_to_see(view: StudyView) -> None:
    panel, data = _panel(view, "A1", _toy(view, "A1"))
    keys_of = [layer.key for layer in panel.layers]
    assert keys_of[:6] == ["image", "labels", "regions", "confidence", "kinds", "cut"]
    drawn = [m.title for m in section_maps(view, "A1").maps if m.codes is not None and m.kind != "labels"]
    assert [data["layers"][key]["title"] for key in keys_of[6:]] == drawn
    assert (panel.left, panel.right, panel.k, panel.leaves) == ("labels", "regions", 4, LEAVES)
    n = len(view.displays["A1"].xy)
    assert data["spots"] == list(view.displays["A1"].spots) and len(set(data["spots"])) == n
    assert len(data["xy"]) == 2 * n and len(data["umap"][0]) == n and len(data["tree"]["leaf"]) == n
    for key in keys_of[1:5] + keys_of[6:]:
        layer = data["layers"][key]
        assert len(layer["codes"]) == n
        assert sum(count for _, _, count in layer["legend"]) == n
        assert {code for code, _, _ in layer["legend"]} == set(layer["codes"])


def test_a_legend_says_what_a_colour_stands_for(view: StudyView) -> None:
    _, data = _panel(view, "A1", _toy(view, "A1"))
    labels = {code: name for code, name, _ in data["layers"]["labels"]["legend"]}
    assert labels == dict(enumerate(LABELS)) | {-1: keys.UNDETERMINED}
    for code, name, count in data["layers"]["regions"]["legend"]:
        region = int(name.split()[1])
        assert data["regions"].count(region) == count
        assert name == f"region {region}" + (f" ≈ {LABELS[code]}" if code < len(LABELS) else "")
    assert {name for _, name, _ in data["layers"]["confidence"]["legend"]} == {"3 of 3 seeds", "2 of 3 seeds"}


def test_annotators_are_layers_of_their_own(view: StudyView) -> None:
    display = view.displays["A1"]
    assert display.labels is not None
    other = display.labels.astype(object)
    other[:5] = "necrosis"
    display = dataclasses.replace(display, annotations={"<smith>": other.astype(str)})
    panel = explorer(display, _toy(view, "A1"), section_maps(view, "A1"), view.labels)
    layer = json.loads(str(panel.data))["layers"]["annotator-0"]
    assert layer["title"] == "Labels of <smith>"
    assert [len(view.labels), "necrosis", 5] in layer["legend"]
    same = json.loads(str(panel.data))["layers"]["labels"]["codes"]
    assert layer["codes"][5:] == same[5:]


def test_what_a_portrait_lacks_is_left_out(view: StudyView) -> None:
    bare = _toy(view, "B1", confidence=None, umap=None, tree=None, curve={}, kinds=(), n_seeds=1, seed=None)
    panel, data = _panel(view, "B1", bare)
    assert not panel.has_plots and (panel.k, panel.leaves) == (0, 0)
    assert [layer.key for layer in panel.layers][:2] == ["labels", "regions"]
    assert {"confidence", "kinds", "cut", "image"}.isdisjoint(data["layers"])
    assert data["umap"] is None and data["tree"] is None and data["confidence"] is None


def test_spots_left_out_have_no_region_no_place_and_no_doubt(view: StudyView) -> None:
    toy = _toy(view, "A1")
    out = np.arange(len(toy.regions)) % 7 == 0
    assert toy.confidence is not None and toy.umap is not None and toy.tree is not None
    toy = dataclasses.replace(
        toy,
        regions=np.where(out, keys.NO_REGION, toy.regions),
        confidence=np.where(out, np.nan, toy.confidence),
        umap=np.where(out[:, None], np.nan, toy.umap),
        tree=Tree("ward", np.where(out, keys.NO_REGION, toy.tree.leaf), toy.tree.merges),
    )
    _, data = _panel(view, "A1", toy)
    for key in ("regions", "confidence", "kinds"):
        assert (np.array(data["layers"][key]["codes"])[out] == NOT_CLUSTERED).all()
        assert [NOT_CLUSTERED, "not clustered", int(out.sum())] in data["layers"][key]["legend"]
    assert {v for v, lost in zip(data["confidence"], out, strict=True) if lost} == {None}
    assert {v for v, lost in zip(data["umap"][0], out, strict=True) if lost} == {None}
    assert sum(data["tree"]["sizes"][:LEAVES]) == (~out).sum()


def test_regions_without_labels_have_the_colours_of_the_first_map(view: StudyView) -> None:
    drawn = section_maps(view, "A1")
    unlabelled = dataclasses.replace(drawn, maps=tuple(m for m in drawn.maps if m.kind != "labels"))
    first = unlabelled.maps[0].codes
    assert first is not None
    same = _toy(view, "A1", regions=first.astype(np.int16))
    np.testing.assert_array_equal(region_codes(same, unlabelled, len(view.labels)), first)
    nothing = dataclasses.replace(drawn, maps=())
    assert region_codes(same, nothing, 4).min() == 4


def test_outlines_enclose_every_region(view: StudyView) -> None:
    _, data = _panel(view, "A1", _toy(view, "A1"))
    codes = {code for code, _, _ in data["layers"]["regions"]["legend"]}
    assert {code for code, _ in data["outlines"]} == codes
    assert all(line.startswith("M") and line.endswith("z") for _, line in data["outlines"])


def test_spots_at_the_same_place_cost_the_outlines_only(view: StudyView) -> None:
    drawn = section_maps(view, "A1")
    xy = drawn.xy.copy()
    xy[1] = xy[0]
    display: Display = view.displays["A1"]
    panel = explorer(display, _toy(view, "A1"), dataclasses.replace(drawn, xy=xy), view.labels)
    assert not panel.has_outlines and panel.has_plots


def test_nothing_from_the_cohort_ends_the_script(view: StudyView) -> None:
    drawn: SectionMaps = section_maps(view, "A1")
    labels = ("</script><script>", *LABELS[1:])
    panel = explorer(view.displays["A1"], _toy(view, "A1"), drawn, labels)
    assert "<" not in str(panel.data) and ">" not in str(panel.data)
    assert labels[0] in str(json.loads(str(panel.data))["layers"]["labels"]["legend"])


def _cut(tree: dict[str, Any], k: int) -> dict[int, set[int]]:
    """Leaves of every node that is a part of the cut into k."""
    parts = {leaf: {leaf} for leaf in range(len(tree["joined"]) + 1)}
    for step, (a, b) in enumerate(tree["joined"][: len(tree["joined"]) + 1 - k]):
        parts[len(tree["joined"]) + 1 + step] = parts.pop(a) | parts.pop(b)
    return parts


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=24),
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 26),
    lost=st.booleans(),
)
def test_a_finer_cut_leaves_the_larger_part_its_colour(
    sizes: list[int], seed: int, k: int, lost: bool
) -> None:
    rng = np.random.default_rng(seed)
    n_leaves = len(sizes)
    merges = linkage(rng.normal(size=(n_leaves, 2)), "average")[:, :3]
    leaf = rng.permutation(np.repeat(np.arange(n_leaves), sizes)).astype(np.int16)
    codes = rng.integers(0, 5, len(leaf))
    if lost:
        leaf, codes = np.append(leaf, keys.NO_REGION), np.append(codes, NOT_CLUSTERED)
    tree = tree_content(Tree("average", leaf, merges), codes, k, first_free=5)
    assert tree["k"] == min(k, n_leaves)
    of = tree["codes"]
    for finer in range(2, n_leaves + 1):
        parts, before = _cut(tree, finer), _cut(tree, finer - 1)
        colours = [of[node] for node in parts]
        assert len(set(colours)) == len(colours)
        (whole,) = before.keys() - parts.keys()
        a, b = sorted(parts.keys() - before.keys(), key=lambda node: tree["sizes"][node])
        assert tree["sizes"][whole] == tree["sizes"][a] + tree["sizes"][b]
        assert of[whole] == of[b] or (tree["sizes"][a] == tree["sizes"][b] and of[whole] == of[a])


def test_the_first_cut_has_the_colours_of_the_regions_shown() -> None:
    leaf = np.repeat(np.arange(4), 5).astype(np.int16)
    merges = np.array([[0, 1, 1.0], [2, 3, 2.0], [4, 5, 3.0]])
    tree = tree_content(Tree("ward", leaf, merges), np.where(leaf < 2, 7, 2), 2, first_free=9)
    assert (tree["codes"][4], tree["codes"][5]) == (7, 2)
    assert {tree["codes"][0], tree["codes"][1]} == {7, 10} or {tree["codes"][0], tree["codes"][1]} == {7, 9}


@settings(max_examples=40, deadline=None)
@given(n_leaves=st.integers(2, 20), seed=st.integers(0, 2**32 - 1))
def test_branches_of_the_drawing_do_not_cross(n_leaves: int, seed: int) -> None:
    merges = linkage(np.random.default_rng(seed).normal(size=(n_leaves, 2)), "ward")[:, :3]
    leaf = np.arange(n_leaves, dtype=np.int16)
    tree = tree_content(Tree("ward", leaf, merges), leaf, 3, first_free=0)
    assert sorted(tree["x"][:n_leaves]) == list(range(n_leaves))
    for k in range(1, n_leaves):
        for members in _cut(tree, k).values():
            places = sorted(tree["x"][one] for one in members)
            assert places == list(range(int(places[0]), int(places[0]) + len(places)))


def test_a_tree_of_one_leaf_has_one_part() -> None:
    tree = tree_content(
        Tree("ward", np.zeros(3, np.int16), np.empty((0, 3))), np.zeros(3, int), 4, first_free=1
    )
    assert (tree["k"], tree["codes"], tree["sizes"]) == (1, [0], [3])
    assert len(PALETTE) > 1
