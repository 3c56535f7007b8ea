from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import pages
from PIL import Image

from senca_ray.config import PrepareConfig
from senca_ray.data.images import open_picture
from senca_ray.data.patches import (
    GLASS,
    crop_patches,
    patch_batches,
    patch_radius_pixels,
    spot_distance_pixels,
)
from senca_ray.data.pictures.pillow import PillowPicture
from senca_ray.data.pictures.tiff import TiffPicture
from senca_ray.errors import SencaError


def test_a_patch_is_centred_on_its_spot_and_glass_lies_outside() -> None:
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[18:22, 28:32] = (200, 10, 10)
    picture = PillowPicture(Image.fromarray(pixels))
    patches = crop_patches(picture, np.array([[30.0, 20.0], [0.0, 0.0]]), 10, 20)
    assert patches.shape == (2, 20, 20, 3) and patches.dtype == np.uint8
    np.testing.assert_array_equal(patches[0, 8:12, 8:12], np.full((4, 4, 3), (200, 10, 10)))
    assert (patches[1, :10] == 255).all() and (patches[1, :, :10] == 255).all()
    assert (patches[1, 10:, 10:] == 0).all()


def test_spot_distance_is_the_common_nearest_distance() -> None:
    x, y = np.meshgrid(np.arange(5) * 100.0, np.arange(4) * 100.0)
    assert spot_distance_pixels(np.column_stack([x.ravel(), y.ravel()])) == 100.0


positions = st.floats(-50, 350)


@settings(max_examples=30, deadline=None)
@given(x=positions, y=positions, radius=st.floats(1, 150), size=st.integers(4, 40))
def test_a_patch_of_an_image_in_memory_is_pillows_crop_and_resize(
    x: float, y: float, radius: float, size: int
) -> None:
    """Number by number: features of prepared sections stay what they were."""
    image = Image.effect_noise((300, 200), 60).convert("RGB")
    box = (round(x - radius), round(y - radius), round(x + radius), round(y + radius))
    inside = (max(box[0], 0), max(box[1], 0), min(box[2], 300), min(box[3], 200))
    patch = Image.new("RGB", (box[2] - box[0], box[3] - box[1]), GLASS)
    if inside[0] < inside[2] and inside[1] < inside[3]:
        patch.paste(image.crop(inside), (inside[0] - box[0], inside[1] - box[1]))
    expected = patch.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)
    (found,) = crop_patches(PillowPicture(image), np.array([[x, y]]), radius, size)
    np.testing.assert_array_equal(found, np.asarray(expected))


def test_a_patch_smaller_than_a_pixel_is_one_pixel() -> None:
    picture = PillowPicture(Image.new("RGB", (9, 9), (1, 2, 3)))
    assert (crop_patches(picture, np.array([[4.0, 4.0]]), 0.1, 8) == (1, 2, 3)).all()


def test_tiles_are_decoded_once_whatever_the_order_of_the_spots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[tuple[int, ...]] = []
    own = TiffPicture._decode

    def decode(self: TiffPicture, *place: int) -> np.ndarray | None:
        decoded.append(place)
        return own(self, *place)

    monkeypatch.setattr(TiffPicture, "_decode", decode)
    # Two rows of tiles and no more: what spots in random order would not get by with.
    monkeypatch.setattr("senca_ray.data.pictures.tiff._KEPT_BYTES", 10 * 64 * 64 * 3)
    pages(tmp_path / "a.tif", compression="zstd")
    rng = np.random.default_rng(0)
    pixel_xy = rng.permutation(
        np.stack(np.meshgrid(range(10, 300, 10), range(10, 200, 10)), -1).reshape(-1, 2)
    )
    with open_picture(tmp_path / "a.tif", 10**6) as picture:
        patches = crop_patches(picture, pixel_xy, 8.0, 16)
        assert len(set(decoded)) == 20 and len(decoded) <= 40
        some = [(rows, part) for rows, part in patch_batches(picture, pixel_xy, 8.0, 16, 100)]
        assert sorted(np.concatenate([rows for rows, _ in some])) == list(range(len(pixel_xy)))
        assert [len(rows) for rows, _ in some] == [100, 100, 100, 100, 100, 51]
        for rows, part in some:
            np.testing.assert_array_equal(part, patches[rows])
        first = picture.window(*(pixel_xy[0] - 8).tolist(), 16, 16, (16, 16))
        np.testing.assert_array_equal(patches[0], first)


def test_spots_of_an_image_in_memory_keep_their_order() -> None:
    picture = PillowPicture(Image.new("RGB", (50, 50)))
    pixel_xy = np.random.default_rng(0).uniform(0, 50, (7, 2))
    rows = [r.tolist() for r, _ in patch_batches(picture, pixel_xy, 3.0, 8, 4)]
    assert rows == [[0, 1, 2, 3], [4, 5, 6]]


def test_half_the_side_of_a_patch_in_pixels() -> None:
    spots, micrometres = PrepareConfig(patch_radius=1.5), PrepareConfig(patch_um=200.0)
    assert patch_radius_pixels(spots, 40.0, None, None) == 60.0
    # Spots 100 um and 40 pixels apart: 2.5 um a pixel, so 200 um are 80 pixels.
    assert patch_radius_pixels(micrometres, 40.0, 100.0, None) == 40.0
    assert patch_radius_pixels(micrometres, 40.0, None, 0.5) == 200.0
    assert patch_radius_pixels(micrometres, 40.0, 100.0, 0.5) == 40.0, "the spots' scale comes first"
    with pytest.raises(SencaError, match=r"patch_um is 200 micrometres, but neither .* use patch_radius"):
        patch_radius_pixels(micrometres, 40.0, None, None)
