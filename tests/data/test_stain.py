"""Simulated tissue: two stains of known colours and random strengths, and glass between."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from torchstain.base.normalizers import MacenkoNormalizer

from senca_ray.data.pictures.pillow import PillowPicture
from senca_ray.data.stain import normaliser
from senca_ray.errors import SencaError

NAMES = ("macenko", "reinhard")
PURPLE = ((0.56, 0.72, 0.41), (0.22, 0.80, 0.56))
"""Optical density of both stains in red, green and blue, of one laboratory and of another."""
BLUE = ((0.65, 0.70, 0.29), (0.10, 0.85, 0.52))


def section(stains: tuple[tuple[float, ...], ...], strength: float, seed: int = 0) -> Image.Image:
    """The same tissue for the same seed, in any stains; a margin of glass."""
    rng = np.random.default_rng(seed)
    amounts = rng.gamma(2.0, 0.25, (160, 160, 2)) * strength
    density = amounts @ np.array(stains)
    image = np.clip(256 * np.exp(-density) - 1, 0, 255)
    image[:20] = image[-20:] = 255
    return Image.fromarray(image.astype(np.uint8))


def normal(name: str, image: Image.Image) -> np.ndarray:
    change = normaliser(name, PillowPicture(image))
    assert change is not None
    return change(np.asarray(image)[np.newaxis])[0]


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other).mean())


def test_none_changes_nothing() -> None:
    assert normaliser("none", PillowPicture(section(PURPLE, 1.0))) is None


@pytest.mark.parametrize("name", NAMES)
def test_the_same_tissue_stained_in_two_laboratories_comes_to_look_alike(name: str) -> None:
    one, other = section(PURPLE, 1.0), section(BLUE, 0.6)
    before = distance(np.asarray(one), np.asarray(other))
    after = distance(normal(name, one), normal(name, other))
    assert before > 20 and after < {"macenko": 0.3, "reinhard": 0.7}[name] * before


def test_macenko_undoes_the_stains_it_was_told() -> None:
    """Tissue in the reference's own stains and strengths stays as it is."""
    rng = np.random.default_rng(0)
    stains = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]])
    pure = rng.random((160, 160)) < 0.5
    amounts = np.stack([pure * 1.0, ~pure * 1.0], axis=-1) * rng.uniform(0.5, 1, (160, 160, 1)) * (1.98, 1.04)
    image = np.clip(np.rint(256 * np.exp(-amounts @ stains) - 1), 0, 255).astype(np.uint8)
    assert distance(normal("macenko", Image.fromarray(image)), image) < 8


def test_macenko_is_the_librarys_where_it_estimates_from_the_same_pixels() -> None:
    rng = np.random.default_rng(0)
    amounts = rng.uniform(0.3, 1.2, (90, 90, 2))
    image = (256 * np.exp(-amounts @ np.array(BLUE)) - 1).astype(np.uint8)
    expected, _, _ = MacenkoNormalizer(backend="numpy").normalize(image, Io=256, stains=False)
    assert np.abs(normal("macenko", Image.fromarray(image)).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_all_patches_of_a_section_are_changed_alike(name: str) -> None:
    """Alone or among others: a patch's colours do not depend on what else is in it."""
    image = section(BLUE, 0.8)
    change = normaliser(name, PillowPicture(image))
    assert change is not None
    pixels = np.asarray(image)
    whole = change(pixels[np.newaxis])[0]
    parts = change(np.stack([pixels[30:62, 30:62], pixels[0:32, 0:32]]))
    np.testing.assert_array_equal(parts[0], whole[30:62, 30:62])
    np.testing.assert_array_equal(parts[1], whole[0:32, 0:32])
    assert parts.dtype == np.uint8


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("strength", [0.4, 1.5])
def test_glass_stays_glass(name: str, strength: float) -> None:
    change = normaliser(name, PillowPicture(section(BLUE, strength)))
    assert change is not None
    white = np.full((2, 16, 16, 3), 255, dtype=np.uint8)
    np.testing.assert_array_equal(change(white), white)
    grey = np.full((1, 16, 16, 3), 246, dtype=np.uint8)  # glass as many scanners see it
    np.testing.assert_array_equal(change(grey), grey)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_without_tissue_is_told(name: str) -> None:
    with pytest.raises(SencaError, match=f"0 pixels of stained tissue .* 1,000 for stain '{name}'"):
        normaliser(name, PillowPicture(Image.new("RGB", (200, 200), (250, 249, 251))))


def test_a_single_stain_is_told_by_macenko_and_taken_by_reinhard() -> None:
    single = section((PURPLE[0], PURPLE[0]), 1.0)
    with pytest.raises(SencaError, match="one stain or none"):
        normaliser("macenko", PillowPicture(single))
    assert normal("reinhard", single).shape == (160, 160, 3)


@pytest.mark.parametrize("name", NAMES)
def test_black_and_saturated_pixels_stay_in_range(name: str) -> None:
    change = normaliser(name, PillowPicture(section(PURPLE, 1.0)))
    assert change is not None
    corners = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 0, 255]], dtype=np.uint8)
    changed = change(corners.reshape(1, 1, 5, 3))
    assert changed.shape == (1, 1, 5, 3) and np.isfinite(changed).all()
