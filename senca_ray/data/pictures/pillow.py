"""Pictures small enough to be decoded whole, by Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from senca_ray.data.pictures.picture import Picture, over_glass
from senca_ray.errors import SencaError

WHOLE_PIXELS = 200_000_000
"""Images of up to so many pixels are decoded whole: Pillow takes 4 bytes a pixel, 0.8 GB of a worker's 2."""


def open_image(path: Path, max_pixels: int) -> Image.Image:
    """Open an image without decoding it.

    Raises SencaError when it is no image or declares more than `max_pixels` pixels.
    """
    own_limit = Image.MAX_IMAGE_PIXELS
    try:
        # Pillow warns of and refuses images above a size of its own; what counts here is `max_pixels`.
        Image.MAX_IMAGE_PIXELS = None
        image = Image.open(path, formats=("JPEG", "PNG", "TIFF"))
    except UnidentifiedImageError:
        raise SencaError(
            "cannot be opened: not an image; expected JPEG, PNG, TIFF or a whole-slide format; convert it"
        ) from None
    except Exception as error:  # noqa: BLE001 - headers of damaged files raise all kinds of errors
        raise SencaError(f"cannot be opened as an image ({error}); expected JPEG, PNG or TIFF") from None
    finally:
        Image.MAX_IMAGE_PIXELS = own_limit
    try:
        check_declared(image.size, max_pixels)
    except SencaError:
        image.close()
        raise
    return image


def check_declared(size: tuple[int, int], max_pixels: int) -> None:
    """Raise SencaError for more pixels than allowed, before any of them is decoded."""
    if size[0] * size[1] > max_pixels:
        raise SencaError(
            f"the image declares {size[0]} x {size[1]} pixels; expected at most {max_pixels:,} in all; use a "
            "reduced image with matching pixel coordinates or raise max_image_pixels"
        )


class PillowPicture(Picture):
    """An image decoded whole at its first window, or one that is in memory already."""

    in_memory = True

    def __init__(self, image: Image.Image, um_per_pixel: float | None = None) -> None:
        if image.mode in ("I", "F"):
            kind = "32-bit" if image.mode == "I" else "floating-point"
            raise SencaError(
                f"the image has {kind} pixels; expected 8 or 16 bits a channel; save it with 8 bits"
            )
        self._image = image
        self.levels = (image.size,)
        self.um_per_pixel = um_per_pixel

    def read(self, level: int, left: int, top: int, width: int, height: int) -> Image.Image:
        """RGB pixels of a box."""
        box = self._image.crop((left, top, left + width, top + height))
        if box.mode.startswith("I;16"):
            # Pillow's own conversion cuts off everything above 255.
            box = Image.fromarray((np.asarray(box).astype(np.uint16) // 257).astype(np.uint8))
        return over_glass(box)

    def check(self) -> None:
        """Decode the image, a JPEG at an eighth of its size: a cut-off end shows only then."""
        file = getattr(self._image, "filename", "")
        if not file:
            return
        width, height = self.size
        with self.decoding(), open_image(Path(file), width * height) as image:
            image.draft("RGB", (max(1, width // 8), max(1, height // 8)))
            image.load()

    def close(self) -> None:
        """Let go of the file and the pixels."""
        self._image.close()
