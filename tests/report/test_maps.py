from __future__ import annotations

import io
from itertools import permutations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageColor
from study_folder import Section, make_study

from senca_ray import keys
from senca_ray.report import maps
from senca_ray.report.maps import PALETTE, colour_of, match, overlay, picture, section_maps
from senca_ray.report.view import load_study

CODES = st.lists(st.integers(-1, 4), min_size=1, max_size=40).map(np.array)


@given(reference=CODES, names=st.permutations(range(10)))
def test_renamed_regions_get_the_reference_s_colours(reference: np.ndarray, names: list[int]) -> None:
    regions = np.array(names)[reference + 1]
    counted = reference >= 0
    np.testing.assert_array_equal(match(regions, reference, first_free=5)[counted], reference[counted])


@given(reference=CODES, seed=st.integers(0, 99), k=st.integers(1, 5))
def test_matching_is_one_to_one_and_the_best(reference: np.ndarray, seed: int, k: int) -> None:
    regions = np.random.default_rng(seed).integers(0, k, len(reference))
    codes = match(regions, reference, first_free=7)
    assert len({*zip(regions.tolist(), codes.tolist(), strict=True)}) == len(set(regions)) == len(set(codes))
    assert all(c in reference or c >= 7 for c in codes)
    agreeing = (codes == reference).sum()
    for names in permutations(range(5), k):
        assert agreeing >= (np.array(names)[regions] == reference).sum()


def test_undetermined_spots_lend_no_colour() -> None:
    assert match(np.array([3, 3, 8]), np.array([-1, -1, 0]), first_free=1).tolist() == [1, 1, 0]


def test_colours_differ() -> None:
    assert len({*PALETTE, maps.UNDETERMINED_COLOUR}) == len(PALETTE) + 1
    assert colour_of(-1) == maps.UNDETERMINED_COLOUR and colour_of(len(PALETTE)) == PALETTE[0]


def test_an_overlay_holds_every_spot_inside_the_picture(finished: Path) -> None:
    section = section_maps(load_study(finished), "A1")
    drawing = ElementTree.fromstring(overlay(section, section.maps[0].codes))
    paths = drawing.findall(".//{http://www.w3.org/2000/svg}path")
    places = [
        tuple(map(int, p.split())) for d in paths for p in d.attrib["d"].replace("h0", "").split("M")[1:]
    ]
    assert len(places) == len(set(places)) == 14 * 14
    assert all(0 < x < section.size[0] and 0 < y < section.size[1] for x, y in places)
    strokes = {use.attrib["stroke"] for use in drawing.iter("{http://www.w3.org/2000/svg}use")}
    assert strokes == {"#FFFFFF"} | {colour for _, colour, _ in section.legend}


@pytest.mark.parametrize("sample", ["A1", "B1"])
def test_a_picture_shows_each_spot_in_its_colour(finished: Path, sample: str) -> None:
    section = section_maps(load_study(finished), sample)
    codes = section.maps[0].codes
    assert codes is not None
    drawn = picture(section, codes)
    scale = drawn.width / section.size[0]
    for (x, y), code in zip((section.xy * scale).round().astype(int).tolist(), codes.tolist(), strict=True):
        assert drawn.getpixel((x, y)) == ImageColor.getrgb(colour_of(code))


def test_spots_lie_where_they_lie_in_the_image(finished: Path) -> None:
    """A mark put into the image under one spot is found under that spot of the drawing."""
    view = load_study(finished)
    display = view.displays["C1"]
    assert display.thumbnail is not None and display.thumbnail_xy is not None
    with Image.open(io.BytesIO(display.thumbnail)) as image:
        marked = Image.new("RGB", image.size, "white")
    spot = 3 * 14 + 9
    x, y = display.thumbnail_xy[spot].astype(int).tolist()
    marked.paste("black", (x - 6, y - 6, x + 6, y + 6))
    buffer = io.BytesIO()
    marked.save(buffer, "JPEG")
    object.__setattr__(display, "thumbnail", buffer.getvalue())
    section = section_maps(view, "C1")
    assert section.image is not None
    with Image.open(io.BytesIO(section.image)) as cut:
        grey = np.asarray(cut.convert("L"))
    rows, columns = np.nonzero(grey < 80)
    scale = section.size[0] / grey.shape[1]
    assert section.size[1] / grey.shape[0] == pytest.approx(scale, rel=0.01)
    found = np.array([columns.mean(), rows.mean()]) * scale
    np.testing.assert_allclose(found, section.xy[spot], atol=0.15 * section.spacing)


def test_the_typical_seed_is_shown_and_the_first_where_none_is_marked() -> None:
    rows = pd.DataFrame({keys.SEED: [2, 1, 0], keys.STATUS: keys.OK, keys.TYPICAL: [False, True, False]})
    assert maps._typical(rows)[keys.SEED] == 1
    assert maps._typical(rows.assign(typical=None))[keys.SEED] == 0
    assert maps._typical(rows.assign(status=keys.FAILED))[keys.STATUS] == keys.FAILED


def test_maps_of_a_section_in_order(finished: Path) -> None:
    section = section_maps(load_study(finished), "C1")
    titles = [m.title for m in section.maps]
    consensus = "consensus, neighbors=4"
    assert titles[:5] == ["labels", "neighbors=4", consensus, "neighbors=8", "neighbors=16"]
    assert sorted(titles[5:]) == ["coordinates", "smoothed-image", "smoothed-pca", "untrained"]
    failed = section.maps[4]
    assert failed.codes is None and failed.details == "no regions: RuntimeError: loss is not finite"


def test_without_labels_the_default_lends_its_colours(tmp_path: Path) -> None:
    folder = make_study(tmp_path, (Section("A1", "A"), Section("U1", "U", label_source=keys.UNLABELLED)))
    section = section_maps(load_study(folder), "U1")
    assert section.legend == () and section.maps[0].title == "neighbors=4"
    first, second = section.maps[0].codes, section.maps[1].codes
    assert first is not None and second is not None
    assert set(first) == set(second) == {4, 5, 6, 7}, "the labels of other sections keep their colours"
    assert (first == second).mean() > 0.5


def test_the_consensus_shown_is_the_row_that_combines_the_seeds(finished: Path) -> None:
    view = load_study(finished)
    shown = section_maps(view, "B1").maps[2]
    row = view.results.query(
        "sample == 'B1' and method == 'senca' and setting == 'neighbors=4' and seed == -1"
    )
    assert shown.row is not None and shown.kind == "consensus"
    np.testing.assert_array_equal(shown.row[keys.REGIONS], row[keys.REGIONS].iloc[0])
    assert shown.details.endswith(f"3 seeds combined, stability {row[keys.STABILITY].iloc[0]:.3f}")


def test_a_single_seed_has_no_consensus(tmp_path: Path) -> None:
    view = load_study(make_study(tmp_path, (Section("A1", "A"),), seeds=1))
    assert not [m.title for m in section_maps(view, "A1").maps if m.kind == "consensus"]
