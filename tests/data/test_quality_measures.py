"""What is measured of a section for quality control, on sections and pictures made here."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from scipy.sparse import csr_matrix
from toys import grid, toy_section

from senca_ray.analysis.quality import shared_spots
from senca_ray.data.quality import expression_quality, image_quality, reoriented, tissue_mask
from senca_ray.data.section import RawSection

DISTANCE = 40.0
"""Pixels between spots of the full picture; its thumbnail has a quarter of its side."""


class ArrayPicture:
    """A picture in memory."""

    um_per_pixel = None

    def __init__(self, pixels: np.ndarray) -> None:
        self._image = Image.fromarray(pixels)
        self.size = self._image.size

    def window(self, left: int, top: int, width: int, height: int, out: tuple[int, int]) -> np.ndarray:
        full = Image.new("RGB", (width, height), (255, 255, 255))
        full.paste(self._image, (-left, -top))
        return np.asarray(full.resize(out, Image.Resampling.BILINEAR))


def stained(inside: np.ndarray, tinted: bool = False) -> np.ndarray:
    """(h, w, 3) uint8: nuclei where `inside` (h, w) is true, else glass, which may be tinted and smeared."""
    rng = np.random.default_rng(3)
    grain = ndimage.gaussian_filter(rng.normal(size=inside.shape), 1.5)
    nuclei = np.clip(grain / grain.std(), -2, 2) * 45
    y, x = np.mgrid[: inside.shape[0], : inside.shape[1]]
    smear = np.exp(-((x - 700) ** 2 + (y - 560) ** 2) / 2e4)[..., None] * (
        [0, 30, 10] if tinted else [0, 0, 0]
    )
    glass = np.array([225, 205, 225] if tinted else [244, 244, 244]) - smear
    pixels = np.where(inside[..., None], np.array([150, 90, 150]) + nuclei[..., None], glass)
    return np.clip(pixels + rng.normal(0, 1, (*inside.shape, 1)), 0, 255).astype(np.uint8)


def in_shape(xy: np.ndarray) -> np.ndarray:
    """Whether positions (..., 2) lie in a block without one corner: no mirror image of it is the same."""
    x, y = xy[..., 0], xy[..., 1]
    return (x > 160) & (x < 720) & (y > 120) & (y < 520) & ((x < 480) | (y < 360))


@functools.cache
def tissue(tinted: bool = False) -> np.ndarray:
    """(800, 960, 3) uint8: a piece of tissue on glass."""
    y, x = np.mgrid[:800, :960]
    return stained(in_shape(np.stack([x, y], axis=-1)), tinted)


def spots() -> np.ndarray:
    """(N, 2) pixel positions of the array's spots that lie on that tissue."""
    xy = grid(20, 16) * DISTANCE + [180, 140]
    return xy[in_shape(xy)]


def measured(pixels: np.ndarray, xy: np.ndarray) -> dict[str, Any]:
    small = np.asarray(Image.fromarray(pixels).resize((pixels.shape[1] // 4, pixels.shape[0] // 4)))
    facts = image_quality(ArrayPicture(pixels), small, 0.25, xy, DISTANCE)  # type: ignore[arg-type]
    json.dumps(facts, allow_nan=False)
    return facts


@pytest.mark.parametrize("tinted", [False, True])
def test_spots_in_their_place_fit_the_tissue(tinted: bool) -> None:
    facts = measured(tissue(tinted), spots())
    assert facts["off_tissue"] < 0.02 and facts["fit"] > 0.95 and np.hypot(*facts["shift"]) <= 0.5
    assert facts["turned_fit"] < facts["best_fit"] - 0.1
    assert 0.15 < facts["tissue_share"] < 0.45 and facts["distance_px"] == DISTANCE


@pytest.mark.parametrize("shift", [(1.5, 0.0), (0.0, -2.0), (-2.0, 1.0)])
def test_a_shift_is_found_and_told_which_way_the_spots_have_to_go(shift: tuple[float, float]) -> None:
    facts = measured(tissue(), spots() + np.array(shift) * DISTANCE)
    assert facts["off_tissue"] > 0.02
    assert np.hypot(*(np.array(facts["shift"]) + shift)) <= 0.75
    assert np.hypot(*facts["shift"]) > 0.5


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7])
def test_another_orientation_of_the_frame_is_found(orientation: int) -> None:
    # Whoever swaps x and y thinks of a frame whose sides have changed places.
    size = (800, 960) if orientation & 4 else (960, 800)
    facts = measured(tissue(), reoriented(spots(), orientation, size))
    assert facts["turned"] == {5: 6, 6: 5}.get(orientation, orientation)
    assert facts["turned_fit"] > facts["best_fit"] + 0.05


@given(
    orientation=st.integers(0, 7),
    xy=st.lists(st.tuples(st.floats(0, 99), st.floats(0, 99)), min_size=1, max_size=5),
)
@settings(max_examples=30)
def test_orientations_keep_distances_and_are_undone(orientation: int, xy: list[tuple[float, float]]) -> None:
    positions = np.array(xy)
    turned = reoriented(positions, orientation, (100, 100))
    undone = reoriented(turned, {5: 6, 6: 5}.get(orientation, orientation), (100, 100))
    np.testing.assert_allclose(undone, positions, atol=1e-9)
    assert ((turned >= 0) & (turned <= 100)).all()


def test_where_tissue_is_everywhere_nothing_is_claimed() -> None:
    facts = measured(stained(np.ones((400, 400), dtype=bool)), grid(7, 7) * DISTANCE + 80)
    assert all(facts[name] is None for name in ("off_tissue", "fit", "shift", "turned_fit", "turned"))
    assert facts["sharpness"] > 0


def test_amid_much_more_tissue_spots_fit_anywhere() -> None:
    left = np.zeros((800, 1600), dtype=bool)
    left[:, :800] = True
    facts = measured(stained(left), grid(6, 6) * DISTANCE + 300)
    assert facts["off_tissue"] == 0 and facts["shift"] is None and facts["turned"] is None


@pytest.mark.parametrize("grey", [0, 244])
def test_an_even_image_has_no_tissue_and_no_sharpness(grey: int) -> None:
    facts = measured(np.full((400, 400, 3), grey, dtype=np.uint8), grid(6, 6) * DISTANCE + 60)
    assert facts["off_tissue"] is None and facts["sharpness"] is None


def test_spots_beside_the_tissue_are_counted() -> None:
    added = np.array([[700.0, 60.0], [860, 700], [820, 700], [780, 740]])
    facts = measured(tissue(), np.vstack([spots(), added]))
    share = len(added) / (len(spots()) + len(added))
    assert facts["off_tissue"] == pytest.approx(share, abs=0.02)


def test_spots_outside_the_image_are_off_tissue() -> None:
    facts = measured(tissue(), spots() + 5000)
    assert facts["off_tissue"] == 1.0


def test_dense_arrays_have_no_shift_below_what_a_thumbnail_shows() -> None:
    small = tissue()[::4, ::4]
    facts = image_quality(ArrayPicture(tissue()), small, 0.25, spots(), 8.0)  # type: ignore[arg-type]
    assert facts["shift"] is None and facts["turned"] is not None


def test_blur_lowers_sharpness_and_paler_stain_does_not() -> None:
    pixels = tissue().astype(float)
    sharp = measured(pixels.astype(np.uint8), spots())["sharpness"]
    found = [sharp]
    for sigma in (2.0, 4.0):
        blurred = ndimage.gaussian_filter(pixels, (sigma, sigma, 0)).astype(np.uint8)
        found.append(measured(blurred, spots())["sharpness"])
    assert found[0] > 1.3 * found[1] > 1.69 * found[2]
    pale = (244 - (244 - np.minimum(pixels, 244)) * 0.6).astype(np.uint8)
    assert measured(pale, spots())["sharpness"] == pytest.approx(sharp, rel=0.2)


def test_the_same_section_measures_the_same() -> None:
    assert measured(tissue(), spots()) == measured(tissue(), spots())


def test_a_mask_is_tissue_and_not_a_smear() -> None:
    mask = tissue_mask(tissue(tinted=True)[::4, ::4])
    assert mask is not None
    assert mask[60, 80] and not mask[140, 175] and not mask[10, 10]


def a_section(folder: Path, seed: int, spots: int = 300, genes: int = 150) -> RawSection:
    """Spots of one tissue: another seed is a replicate, with the same expected counts."""
    rates = np.random.default_rng(0).gamma(0.6, 8.0, genes)
    counts = csr_matrix(np.random.default_rng(seed).poisson(rates, (spots, genes)).astype(np.int32))
    names = tuple(f"G{i}" for i in range(genes))
    section = toy_section(folder)
    return dataclasses.replace(
        section,
        spots=tuple(map(str, range(spots))),
        genes=names,
        counts=counts,
        xy=grid(spots, 1),
        labels=None,
    )


def cut(
    section: RawSection, rows: np.ndarray | slice, columns: np.ndarray | slice = slice(None)
) -> RawSection:
    counts = section.counts[rows][:, columns]
    names = np.array(section.genes)[columns]
    return dataclasses.replace(
        section, spots=tuple(map(str, range(counts.shape[0]))), genes=tuple(names.tolist()), counts=counts
    )


def share(one: RawSection, other: RawSection) -> float:
    signatures = {name: expression_quality(s)["signature"] for name, s in (("a", one), ("b", other))}
    pairs = shared_spots(signatures)
    return pairs[0].share if pairs else 0.0


def test_counts_of_a_section(tmp_path: Path) -> None:
    section = toy_section(tmp_path)
    dense = section.counts.toarray()
    facts = expression_quality(section)
    json.dumps(facts, allow_nan=False)
    assert facts["spots"] == 48 and facts["genes_detected"] == (dense.sum(axis=0) > 0).sum()
    assert facts["counts"][2] == np.median(dense.sum(axis=1))
    assert facts["genes"][2] == np.median((dense > 0).sum(axis=1))
    assert facts["mito_genes"] == 0 and facts["mito_share"] is None


@pytest.mark.parametrize("names", [("MT-CO1", "MT-ND4"), ("mt-Co1", "mt-Nd4")])
def test_the_mitochondrial_share_leaves_out_empty_spots(tmp_path: Path, names: tuple[str, str]) -> None:
    counts = csr_matrix(np.array([[1, 1, 8], [2, 2, 6], [0, 0, 0], [3, 3, 4]], dtype=np.int32))
    section = dataclasses.replace(
        toy_section(tmp_path), spots=tuple("abcd"), genes=(*names, "MTOR"), counts=counts, xy=grid(4, 1)
    )
    facts = expression_quality(section)
    assert facts["mito_genes"] == 2 and facts["mito_share"] == pytest.approx(0.4)
    nothing = dataclasses.replace(section, counts=csr_matrix((4, 3), dtype=np.int32))
    assert expression_quality(nothing)["mito_share"] is None


@given(seed=st.integers(0, 1000))
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_order_and_names_are_no_matter(tmp_path: Path, seed: int) -> None:
    section = a_section(tmp_path, 1)
    rng = np.random.default_rng(seed)
    other = cut(section, rng.permutation(300), rng.permutation(150))
    other = dataclasses.replace(other, genes=tuple(f"ENSG{i:011d}" for i in range(150)))
    assert expression_quality(other)["signature"] == expression_quality(section)["signature"]


def test_a_section_without_some_spots_and_rare_genes_is_still_the_same(tmp_path: Path) -> None:
    section = a_section(tmp_path, 1)
    frequent = np.flatnonzero(np.asarray(section.counts.sum(axis=0)).ravel() > 150)
    assert len(frequent) < 140
    assert share(section, cut(section, slice(0, 290), frequent)) > 0.9
    assert share(section, cut(section, slice(0, 100))) == pytest.approx(1.0, abs=0.3)


def test_replicates_have_nothing_in_common(tmp_path: Path) -> None:
    assert share(a_section(tmp_path, 1), a_section(tmp_path, 2)) == 0


def test_spots_with_few_counts_give_no_signature(tmp_path: Path) -> None:
    section = a_section(tmp_path, 1)
    assert expression_quality(cut(section, slice(0, 29)))["signature"] is None
    poor = dataclasses.replace(section, counts=(section.counts > 0).astype(np.int32))
    assert expression_quality(poor)["signature"] is None


def test_real_sections_are_told_apart_and_lie_on_their_tissue(her2st: Path) -> None:
    from senca_ray.data.readers import reader

    found = {
        files.sample: files for files in reader("her2st").find(her2st) if files.sample in ("A1", "C2", "C3")
    }
    sections = {name: reader("her2st").read(files, 10**9) for name, files in found.items()}
    assert share(sections["C2"], sections["C3"]) == 0
    assert share(sections["C2"], cut(sections["C2"], slice(0, 150))) > 0.9
    section, files = sections["A1"], found["A1"]
    assert files.image is not None and section.pixel_xy is not None
    with Image.open(files.image) as image:
        pixels = np.asarray(image.convert("RGB"))
    facts = image_quality(
        ArrayPicture(pixels),  # type: ignore[arg-type]
        np.asarray(Image.fromarray(pixels).resize((1000, 1069))),
        0.5,
        section.pixel_xy,
        59.5,
    )
    assert facts["off_tissue"] < 0.01 and facts["shift"] == [0, 0] and facts["sharpness"] > 0.4
    assert facts["turned_fit"] < facts["best_fit"]
