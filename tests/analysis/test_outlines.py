from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from senca_ray.analysis.outlines import region_outlines, spot_spacing
from senca_ray.errors import SencaError


def square(side: int) -> np.ndarray:
    return np.array([(x, y) for y in range(side) for x in range(side)], dtype=float)


def hexagonal(side: int) -> np.ndarray:
    places = square(side)
    return np.column_stack([places[:, 0] + places[:, 1] % 2 / 2, places[:, 1] * np.sqrt(3) / 2])


def turned(xy: np.ndarray, angle: float) -> np.ndarray:
    return xy @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@st.composite
def sections(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Positions and regions of some spots of a turned array, each a little off its place."""
    array = draw(st.sampled_from([square, hexagonal]))(draw(st.integers(1, 7)))
    kept = draw(arrays.arrays(bool, len(array)))
    kept[0] = True
    off = draw(arrays.arrays(float, array.shape, elements=st.floats(-0.1, 0.1)))
    regions = draw(arrays.arrays(np.int16, len(array), elements=st.integers(-1, 3)))
    placed = turned(array + off * draw(st.sampled_from([0, 1])), draw(st.floats(0, 3)))
    return placed[kept], regions[kept]


@given(sections(), st.sampled_from([1.0, 0.01, 250.0]))
@settings(max_examples=80, deadline=None)
def test_every_spot_lies_in_the_outline_of_its_region_and_in_no_other(
    section: tuple[np.ndarray, np.ndarray], spacing: float
) -> None:
    places, regions = section
    xy = places * spacing + 30 * spacing
    outlines = region_outlines(xy, spacing, regions)
    assert sorted(outlines) == sorted(set(regions[regions >= 0].tolist()))
    for region, outline in outlines.items():
        assert outline.is_valid and outline.geom_type == "MultiPolygon"
        np.testing.assert_array_equal(shapely.contains_xy(outline, *xy.T), regions == region)
        # Rims stay near the spots.
        own = shapely.MultiPoint(xy[regions == region])
        assert shapely.covered_by(outline, shapely.buffer(own, 1.15 * spacing, quad_segs=32))
    whole = shapely.union_all(list(outlines.values()))
    area = sum(outline.area for outline in outlines.values())
    assert area == pytest.approx(whole.area, rel=1e-9)


@given(sections(), st.floats(0.01, 1000), st.floats(-1e4, 1e4))
@settings(max_examples=40, deadline=None)
def test_another_unit_and_origin_give_the_same_outlines(
    section: tuple[np.ndarray, np.ndarray], unit: float, shift: float
) -> None:
    places, regions = section
    plain = region_outlines(places, 1.0, regions)
    moved = region_outlines(places * unit + shift * unit, unit, regions)
    assert list(plain) == list(moved)
    for region, outline in plain.items():
        back = shapely.transform(moved[region], lambda xy: xy / unit - shift)
        assert shapely.symmetric_difference(back, outline).area < 1e-3 * outline.area


@pytest.mark.parametrize("array", [square, hexagonal])
@pytest.mark.parametrize("angle", [0, 0.3])
def test_adjacent_spots_are_one_polygon_without_slits(array, angle: float) -> None:
    xy = turned(array(25), angle) + np.random.default_rng(0).normal(0, 0.03, (625, 2))
    (outline,) = region_outlines(xy, 1.0, np.zeros(625, int)).values()
    assert len(outline.geoms) == 1 and not outline.geoms[0].interiors


def test_neighbouring_regions_share_their_border() -> None:
    xy = square(6)
    left, right = region_outlines(xy, 1.0, (xy[:, 0] > 2).astype(int)).values()
    border = shapely.intersection(left, right)
    assert border.area == 0
    assert border.length == pytest.approx(5 + 2 * np.sqrt(0.75**2 - 0.25), abs=0.02)


def test_rims_stay_near_the_spots() -> None:
    xy = turned(hexagonal(6), 0.4)
    (outline,) = region_outlines(xy, 1.0, np.zeros(36, int)).values()
    assert shapely.covered_by(outline, shapely.buffer(shapely.MultiPoint(xy), 0.77, quad_segs=32))


@pytest.mark.parametrize("array", [square, hexagonal])
def test_the_gap_of_one_missing_spot_is_closed_and_larger_ones_stay(array) -> None:
    xy, regions = array(5), np.zeros(25, int)
    (outline,) = region_outlines(np.delete(xy, 12, 0), 1.0, regions[1:]).values()
    assert not outline.geoms[0].interiors and shapely.contains_xy(outline, *xy[12])
    (outline,) = region_outlines(np.delete(xy, [12, 13], 0), 1.0, regions[2:]).values()
    assert len(outline.geoms[0].interiors) == 1
    assert not shapely.contains_xy(outline, *(xy[12] + xy[13]) / 2)


def test_a_spot_left_out_of_clustering_stays_a_gap() -> None:
    xy, regions, middle = square(5), np.zeros(25, int), 12
    regions[middle] = -1
    (outline,) = region_outlines(xy, 1.0, regions).values()
    assert outline.geoms[0].interiors[0].length == pytest.approx(4, abs=1e-3)


def test_one_spot_a_line_of_spots_and_none() -> None:
    (one,) = region_outlines(np.array([[7.0, 8.0]]), 2.0, np.array([3])).values()
    assert one.area == pytest.approx(np.pi * 1.5**2, rel=0.02)
    line = np.column_stack([np.arange(6.0), 2 * np.arange(6.0)])
    outlines = region_outlines(line, spot_spacing(line), np.array([0, 0, 1, 1, 1, -1]))
    assert [len(outline.geoms) for outline in outlines.values()] == [1, 1]
    assert region_outlines(line, 1.0, np.full(6, -1)) == {}
    assert region_outlines(np.empty((0, 2)), 1.0, np.empty(0, int)) == {}


def test_rings_are_oriented_and_spacing_is_that_of_the_array() -> None:
    xy = 100 * turned(square(5), 0.2)
    assert spot_spacing(xy) == pytest.approx(100)
    assert spot_spacing(xy[:1]) == 1.0
    ring = region_outlines(xy, 100, (np.arange(25) == 12).astype(int))[0].geoms[0]
    assert ring.exterior.is_ccw and not ring.interiors[0].is_ccw


def test_spots_at_one_place_or_nowhere_are_told() -> None:
    xy = square(3)
    xy[4] = xy[2]
    with pytest.raises(SencaError, match="spots 2 and 4 lie at the same place"):
        region_outlines(xy, 1.0, np.zeros(9, int))
    xy[4] = np.nan
    with pytest.raises(SencaError, match="spot 4 has no position"):
        region_outlines(xy, 1.0, np.zeros(9, int))
