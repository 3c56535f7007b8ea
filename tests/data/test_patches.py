import numpy as np
from PIL import Image

from senca_ray.data.patches import crop_patches, spot_distance_pixels


def test_a_patch_is_centred_on_its_spot_and_glass_lies_outside() -> None:
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[18:22, 28:32] = (200, 10, 10)
    patches = crop_patches(Image.fromarray(pixels), np.array([[30.0, 20.0], [0.0, 0.0]]), 10, 20)
    assert patches.shape == (2, 20, 20, 3) and patches.dtype == np.uint8
    np.testing.assert_array_equal(patches[0, 8:12, 8:12], np.full((4, 4, 3), (200, 10, 10)))
    assert (patches[1, :10] == 255).all() and (patches[1, :, :10] == 255).all()
    assert (patches[1, 10:, 10:] == 0).all()


def test_spot_distance_is_the_common_nearest_distance() -> None:
    x, y = np.meshgrid(np.arange(5) * 100.0, np.arange(4) * 100.0)
    assert spot_distance_pixels(np.column_stack([x.ravel(), y.ravel()])) == 100.0
