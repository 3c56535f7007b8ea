from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import (
    HEIGHT,
    LOSSLESS,
    TILE,
    WIDTH,
    cut,
    cyx,
    declared_png,
    pages,
    pixels,
    planes,
    pyramid,
    set_tag,
    slide,
    smooth,
    tiff,
)
from PIL import Image

from senca_ray.data import images
from senca_ray.data.images import open_picture, thumbnail
from senca_ray.data.pictures import picture as picture_module
from senca_ray.data.pictures import scratch, tiff_layout
from senca_ray.data.pictures import tiff as tiff_module
from senca_ray.data.pictures.picture import Picture
from senca_ray.data.pictures.pillow import PillowPicture
from senca_ray.data.pictures.scratch import ScratchPicture
from senca_ray.data.pictures.slide import SlidePicture
from senca_ray.data.pictures.tiff import TiffPicture
from senca_ray.data.readers.image import image_size
from senca_ray.errors import SencaError

MAX = 1_000_000_000
SIDE = 40_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of every kind."""
    folder = tmp_path_factory.mktemp("pictures")
    for kind, (suffix, write) in LOSSLESS.items():
        write(folder / f"{kind}{suffix}")
    slide(folder / "slide.svs")
    return folder


def file_of(folder: Path, kind: str) -> Path:
    return folder / f"{kind}{LOSSLESS[kind][0]}"


def everything(picture: Picture) -> np.ndarray:
    width, height = picture.size
    return picture.window(0, 0, width, height, (width, height))


def padded(array: np.ndarray, left: int, top: int, width: int, height: int) -> np.ndarray:
    """The box of a decoded image, glass outside."""
    whole = np.full((height, width, 3), 255, dtype=np.uint8)
    y0, x0 = max(top, 0), max(left, 0)
    part = array[y0 : max(top + height, 0), x0 : max(left + width, 0)]
    if part.size:
        whole[y0 - top : y0 - top + part.shape[0], x0 - left : x0 - left + part.shape[1]] = part
    return whole


@pytest.mark.parametrize("kind", LOSSLESS)
def test_every_kind_gives_the_pixels_that_were_written(folder: Path, kind: str) -> None:
    with open_picture(file_of(folder, kind), MAX) as picture:
        picture.check()
        assert picture.size == (WIDTH, HEIGHT)
        np.testing.assert_array_equal(everything(picture), pixels())
    assert image_size(file_of(folder, kind), WIDTH * HEIGHT) == (WIDTH, HEIGHT)


boxes = st.tuples(
    st.integers(-90, WIDTH + 30), st.integers(-90, HEIGHT + 30), st.integers(1, 400), st.integers(1, 300)
)


@settings(max_examples=30, deadline=None)
@given(kind=st.sampled_from(sorted(LOSSLESS)), box=boxes)
def test_a_window_is_the_box_of_the_decoded_image_wherever_it_is(
    folder: Path, kind: str, box: tuple[int, int, int, int]
) -> None:
    with open_picture(file_of(folder, kind), MAX) as picture:
        np.testing.assert_array_equal(picture.window(*box, box[2:]), padded(pixels(), *box))


@settings(max_examples=30, deadline=None)
@given(
    box=boxes, out=st.tuples(st.integers(1, 60), st.integers(1, 60)), band=st.sampled_from([1, 2000, 10**6])
)
def test_resizing_band_by_band_is_pillows_resizing_of_the_whole_box(
    box: tuple[int, int, int, int], out: tuple[int, int], band: int
) -> None:
    filter_ = Image.Resampling.BILINEAR
    whole = Image.fromarray(padded(pixels(), *box)).resize(out, filter_, reducing_gap=2.0)
    with pytest.MonkeyPatch.context() as patch, PillowPicture(Image.fromarray(pixels())) as picture:
        patch.setattr(picture_module, "_BAND_PIXELS", band)
        np.testing.assert_array_equal(picture.window(*box, out), np.asarray(whole))


def test_the_edges_of_a_slide_and_what_lies_outside(folder: Path) -> None:
    with open_picture(folder / "slide.svs", MAX) as picture:
        assert isinstance(picture, SlidePicture) and picture.um_per_pixel == 0.499
        picture.check()
        whole = everything(picture)
        assert np.abs(whole.astype(int) - smooth()).mean() < 2
        for box in ((-10, -10, 30, 30), (WIDTH - 5, HEIGHT - 7, 20, 20), (60, 60, 10, 10), (-50, 0, 20, 20)):
            np.testing.assert_array_equal(picture.window(*box, box[2:]), padded(whole, *box))


@pytest.mark.parametrize("kind", ["pages", "ome", "ome-syx", "ome-16-bit"])
def test_a_reduced_window_comes_from_the_level_that_suits(folder: Path, kind: str) -> None:
    with open_picture(file_of(folder, kind), MAX) as picture:
        assert picture.levels == ((301, 203), (151, 102), (76, 51))
        read: list[int] = []
        own = picture.read
        picture.read = lambda level, *box: (read.append(level), own(level, *box))[1]  # type: ignore[method-assign]
        for out in (200, 100, 50, 20):
            picture.window(0, 0, 200, 200, (out, out))
        assert read == [0, 1, 2, 2]


def test_a_level_shows_the_same_place_as_full_resolution(tmp_path: Path) -> None:
    """Where a box starts between two pixels of a level, too."""
    y, x = np.mgrid[:800, :900]
    array = np.stack([x // 4, y // 4, (x + y) // 8], axis=-1).astype(np.uint8)
    path = tmp_path / "ramp.tif"
    with tifffile.TiffWriter(path) as writer:
        for step in (1, 4):
            level = array.reshape(800 // step, step, 900 // step, step, 3).mean(axis=(1, 3)).astype(np.uint8)
            writer.write(level, tile=TILE, photometric="rgb", metadata=None)
    with open_picture(path, MAX) as levels, PillowPicture(Image.fromarray(array)) as full:
        assert len(levels.levels) == 2
        for left, top in ((101, 55), (3, 2), (402, 309)):
            one, other = (p.window(left, top, 330, 290, (32, 32)).astype(int) for p in (levels, full))
            assert np.abs(one - other).max() <= 3


def test_alpha_shows_glass(tmp_path: Path) -> None:
    colour = np.zeros((20, 20, 3), dtype=np.uint8)
    alpha = np.zeros((20, 20, 1), dtype=np.uint8)
    alpha[:, :10], alpha[:, 10:15] = 255, 128
    both = np.concatenate([colour, alpha], axis=2)
    Image.fromarray(both).save(tmp_path / "a.png")
    Image.fromarray(both).quantize(8).save(tmp_path / "palette.png")
    tiff(tmp_path / "a.tif", both, extrasamples=["unassalpha"], compression="zstd")
    tiff(tmp_path / "premultiplied.tif", both, extrasamples=["assocalpha"], compression="zstd")
    for name in ("a.png", "palette.png", "a.tif", "premultiplied.tif"):
        with open_picture(tmp_path / name, MAX) as picture:
            seen = picture.window(0, 0, 20, 20, (20, 20))
        assert (seen[:, :10] == 0).all() and (seen[:, 15:] == 255).all(), name
        assert (np.abs(seen[:, 10:15].astype(int) - 127) <= 1).all(), name


def test_grey_inverted_cmyk_and_16_bit_images_become_8_bit_rgb(tmp_path: Path) -> None:
    grey = pixels()[..., 0]
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "grey16.png")
    Image.fromarray(grey).save(tmp_path / "grey.png")
    tiff(tmp_path / "grey16.tif", grey.astype(np.uint16) * 257, photometric="minisblack")
    tiff(tmp_path / "inverted.tif", 255 - grey, photometric="miniswhite", compression="zstd")
    for name in ("grey16.png", "grey.png", "grey16.tif", "inverted.tif"):
        with open_picture(tmp_path / name, MAX) as picture:
            np.testing.assert_array_equal(everything(picture), np.repeat(grey[..., None], 3, axis=2), name)
    Image.fromarray(smooth()).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=98)
    Image.fromarray(smooth()).convert("CMYK").save(tmp_path / "cmyk.tif")
    for name in ("cmyk.jpg", "cmyk.tif"):
        with open_picture(tmp_path / name, MAX) as picture:
            assert np.abs(everything(picture).astype(int) - smooth()).mean() < 2, name


def test_a_tile_without_data_is_glass(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tif"
    tiff(path, tile=TILE, compression="zstd")
    with tifffile.TiffFile(path, mode="r+b") as tif:
        counts = list(tif.pages.first.databytecounts)
        tif.pages.first.tags["TileByteCounts"].overwrite([0, *counts[1:]])
    with open_picture(path, MAX) as picture:
        seen = everything(picture)
    assert (seen[:64, :64] == 255).all()
    np.testing.assert_array_equal(seen[:, 64:], pixels()[:, 64:])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"resolution": (20_000, 20_000), "resolutionunit": "centimeter"}, 0.5),
        ({"resolution": (25_400, 25_400), "resolutionunit": "inch"}, 1.0),
        ({"resolution": (300, 300), "resolutionunit": "inch"}, None),  # a printer's, not a microscope's
        ({"resolution": (2, 2), "resolutionunit": "none"}, None),
        ({}, None),
    ],
    ids=["centimetre", "inch", "printer", "none", "nothing"],
)
def test_micrometres_a_pixel_from_the_resolution(
    tmp_path: Path, options: dict[str, Any], expected: float | None
) -> None:
    for name, more in (("plain.tif", {}), ("tiles.tif", {"tile": TILE, "compression": "zstd"})):
        tiff(tmp_path / name, **options, **more)
        with open_picture(tmp_path / name, MAX) as picture:
            assert picture.um_per_pixel == (None if expected is None else pytest.approx(expected))


def test_micrometres_a_pixel_of_ome_and_imagej(folder: Path, tmp_path: Path) -> None:
    with open_picture(file_of(folder, "ome"), MAX) as picture:
        assert picture.um_per_pixel == pytest.approx(0.5)
    tifffile.imwrite(
        tmp_path / "j.tif", pixels(), imagej=True, resolution=(4, 4), metadata={"unit": "um", "axes": "YXS"}
    )
    with open_picture(tmp_path / "j.tif", MAX) as picture:
        assert picture.um_per_pixel == pytest.approx(0.25)


def test_the_thumbnail_is_that_of_the_whole_image() -> None:
    array = pixels(2300, 1300)
    whole = Image.fromarray(array).resize((1000, 565), Image.Resampling.BOX, reducing_gap=2.0)
    buffer = io.BytesIO()
    whole.save(buffer, format="JPEG", quality=80)
    assert thumbnail(PillowPicture(Image.fromarray(array))) == (buffer.getvalue(), 1000 / 2300)


def test_a_thumbnail_of_a_small_image_is_not_enlarged() -> None:
    jpeg, scale = thumbnail(PillowPicture(Image.fromarray(pixels())))
    with Image.open(io.BytesIO(jpeg)) as small:
        assert small.size == (WIDTH, HEIGHT) and scale == 1.0


class Counting(Picture):
    """A large picture that is made up where it is read, and keeps the largest read."""

    levels = ((SIDE, SIDE), (SIDE // 4, SIDE // 4))

    def __init__(self) -> None:
        self.largest = 0

    def read(self, level: int, left: int, top: int, width: int, height: int) -> Image.Image:
        self.largest = max(self.largest, width * height)
        return Image.new("RGB", (width, height), (200, 100, 150))


def test_a_window_of_a_large_picture_takes_memory_for_itself_only() -> None:
    picture = Counting()
    assert (picture.window(17, 30, 600, 600, (224, 224)) == (200, 100, 150)).all()
    assert picture.largest == 600 * 600
    picture.levels = picture.levels[:1]
    assert (picture.window(0, 0, SIDE, 1000, (400, 10)) == (200, 100, 150)).all()
    assert 600 * 600 < picture.largest <= picture_module._BAND_PIXELS < 1000 * SIDE


def test_decoded_tiles_are_kept_up_to_a_bound(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = 3 * 64 * 64 * 3
    monkeypatch.setattr(tiff_module, "_KEPT_BYTES", bound)
    decoded: list[tuple[int, int, int]] = []
    own = TiffPicture._decode

    def decode(self: TiffPicture, *place: int) -> np.ndarray | None:
        decoded.append(place)  # type: ignore[arg-type]
        return own(self, *place)

    monkeypatch.setattr(TiffPicture, "_decode", decode)
    with open_picture(file_of(folder, "ome"), MAX) as picture:
        assert isinstance(picture, TiffPicture)
        for left in (0, 5, 10, 64, 70, 0):
            picture.window(left, 0, 20, 20, (20, 20))
            assert sum(t.nbytes for t in picture._kept.values() if t is not None) <= bound
        assert decoded == [(0, 0, 0), (0, 0, 1)]
        picture.window(0, 0, WIDTH, HEIGHT, (WIDTH, HEIGHT))
        assert sum(t.nbytes for t in picture._kept.values() if t is not None) <= bound
        assert len(decoded) == 5 * 4  # once each, the two at hand not again


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every image counts as a large one; returns the folder of temporary files."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(images, "WHOLE_PIXELS", 100)
    monkeypatch.setattr(tiff_layout, "WHOLE_PIXELS", 100)
    monkeypatch.setattr(tiff_layout, "_LARGEST_TILE", 13_000)
    monkeypatch.setattr(scratch, "_TILE", 64)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    return temporary


def test_large_jpeg_and_png_and_strips_are_decoded_to_tiles_on_disk(
    small_limits: Path, tmp_path: Path
) -> None:
    Image.fromarray(pixels()).save(tmp_path / "a.png")
    Image.fromarray(pixels()).convert("RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(pixels()).save(tmp_path / "a.jpg", quality=95)
    tiff(tmp_path / "a.tif", compression="lzw")
    with Image.open(tmp_path / "a.jpg") as image:
        jpeg = np.asarray(image)
    for name, expected in (
        ("a.png", pixels()),
        ("alpha.png", pixels()),
        ("a.jpg", jpeg),
        ("a.tif", pixels()),
    ):
        with open_picture(tmp_path / name, MAX) as picture:
            assert isinstance(picture, ScratchPicture) and picture.size == (WIDTH, HEIGHT)
            picture.check()
            assert list(small_limits.iterdir()) == [], "decoded before it was asked for"
            for box in ((0, 0, WIDTH, HEIGHT), (-20, 190, 60, 60), (290, -3, 40, 9)):
                seen = picture.window(*box, box[2:]).astype(int)
                assert np.abs(seen - padded(expected, *box)).max() <= (0 if name != "a.jpg" else 2), name
            assert len(list(small_limits.iterdir())) == 1
        assert list(small_limits.iterdir()) == [], "left behind"


def test_cmyk_in_a_large_image_becomes_rgb(small_limits: Path, tmp_path: Path) -> None:
    Image.new("CMYK", (64, 64), (0, 0, 0, 0)).save(tmp_path / "white.jpg", quality=98)
    with open_picture(tmp_path / "white.jpg", MAX) as picture:
        assert picture.window(0, 0, 64, 64, (64, 64)).min() >= 250


def test_a_large_image_needs_room_for_its_tiles(
    small_limits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(pixels()).save(tmp_path / "a.png")
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda path: full)
    with open_picture(tmp_path / "a.png", MAX) as picture, pytest.raises(SencaError, match="set TMPDIR"):
        everything(picture)
    assert list(small_limits.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        (
            "cut.jpg",
            lambda p: (Image.fromarray(pixels()).save(p), cut(p, 0.7)),
            "is cut off: the JPEG has no end",
        ),
        (
            "cut.png",
            lambda p: (Image.fromarray(pixels()).save(p), cut(p, 0.9)),
            "is cut off: the PNG has no end",
        ),
        ("hollow.png", lambda p: declared_png(p, 300, 200), "cannot be decoded"),
        ("passes.png", lambda p: declared_png(p, 300, 200, interlaced=True), "interlaced PNG of 300 x 200"),
        (
            "passes.jpg",
            lambda p: Image.fromarray(pixels()).save(p, progressive=True),
            "progressive JPEG of 301",
        ),
        ("tiles.tif", lambda p: tiff(p, tile=(128, 128), compression="lzw"), "tiles of 128 x 128; expected"),
    ],
)
def test_large_images_that_cannot_be_streamed_are_told(
    small_limits: Path, tmp_path: Path, name: str, write: Callable[[Path], object], message: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(SencaError, match=message), open_picture(tmp_path / name, MAX) as picture:
        everything(picture)
    assert list(small_limits.iterdir()) == []


def bomb_tile(path: Path) -> None:
    """A tile of 64 pixels a side that is a JPEG of 640."""
    pages(path, compression="jpeg")
    large = io.BytesIO()
    Image.new("RGB", (640, 640)).save(large, format="JPEG", quality=5)
    data = large.getvalue()
    with tifffile.TiffFile(path, mode="r+b") as tif:
        page = tif.pages.first
        offsets, counts = list(page.dataoffsets), list(page.databytecounts)
        offsets[0], counts[0] = path.stat().st_size, len(data)
        page.tags["TileOffsets"].overwrite(offsets)
        page.tags["TileByteCounts"].overwrite(counts)
    with path.open("ab") as file:
        file.write(data)


def rubbish_tile(path: Path) -> None:
    tiff(path, tile=TILE, compression="deflate", predictor=True)
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages.first.dataoffsets[0], tif.pages.first.databytecounts[0]
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = bytes(count)
    path.write_bytes(content)


def foreign_planes(path: Path) -> None:
    """OME-TIFF whose planes are in another file, in another folder."""
    cyx(path)
    secret = path.parent / "other.ome.tif"
    cyx(secret)
    with tifffile.TiffFile(path) as tif:
        xml = (tif.ome_metadata or "").replace(
            '<TiffData IFD="0" PlaneCount="3"/>',
            '<TiffData IFD="0" PlaneCount="3"><UUID FileName="../other.ome.tif">urn:uuid:1</UUID></TiffData>',
        )
    assert "../other" in xml
    tifffile.imwrite(path, planes(), photometric="minisblack", description=xml, metadata=None)


def cut_slide(path: Path) -> None:
    """The end of a slide's copy is missing; the index, in front, is not."""
    slide(path)
    cut(path, 0.5)


MALFORMED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "nothing": ("a.jpg", lambda p: p.write_bytes(b""), "0 bytes"),
    "nothing-of-a-slide": ("a.ndpi", lambda p: p.write_bytes(b""), "0 bytes"),
    "missing": ("a.png", lambda p: None, "No such file"),
    "folder": ("a.png", lambda p: p.mkdir(), "directory"),
    "text": (
        "a.png",
        lambda p: p.write_text("no"),
        "not an image; expected JPEG, PNG, TIFF or a whole-slide",
    ),
    "text-for-a-slide": ("a.mrxs", lambda p: p.write_text("no slide"), "not an image"),
    "cut-jpeg": ("a.jpg", lambda p: (Image.fromarray(pixels()).save(p), cut(p, 0.6)), "cannot be decoded"),
    "cut-png": ("a.png", lambda p: (Image.fromarray(pixels()).save(p), cut(p, 0.6)), "cannot be decoded"),
    "cut-header": ("a.tif", lambda p: (tiff(p), cut(p, 0.00006)), "expected a whole TIFF"),
    "cut-tiles": ("a.tif", lambda p: (tiff(p, tile=TILE, compression="lzw"), cut(p, 0.7)), "is cut off"),
    "cut-levels": ("a.tif", lambda p: (pages(p, compression="zstd"), cut(p, 0.5)), "cut off|cannot be"),
    "cut-planes": ("a.ome.tif", lambda p: (cyx(p), cut(p, 0.5)), "cut off|cannot be|expected an image"),
    "cut-ome": (
        "a.ome.tif",
        lambda p: (pyramid(p, pixels()), cut(p, 0.4)),
        "cut off|cannot be|expected an image",
    ),
    "cut-slide": ("a.svs", cut_slide, "cut off|cannot be"),
    "rubbish-tile": ("a.tif", rubbish_tile, "cannot be decoded"),
    "bomb-in-a-tile": ("a.tif", bomb_tile, "a tile of 64 x 64 pixels holds 640 x 640"),
    "bomb-png": ("a.png", lambda p: declared_png(p, 100_000, 100_000), "declares 100000 x 100000 pixels"),
    "bomb-tiff": (
        "a.tif",
        lambda p: (tiff(p, tile=TILE, compression="lzw"), set_tag(p, "ImageWidth", 100_000_000)),
        "declares 100000000 x 203",
    ),
    "bomb-tile-size": (
        "a.tif",
        lambda p: (tiff(p, tile=TILE, compression="zstd"), set_tag(p, "TileWidth", 64_000_000)),
        "tiles of 64000000 x 64|cannot be",
    ),
    "compression": (
        "a.tif",
        lambda p: (tiff(p, tile=TILE, compression="zstd"), set_tag(p, "Compression", 34887)),
        "LERC compression found; expected none, LZW.*imagecodecs",
    ),
    "five-channels": (
        "a.tif",
        lambda p: tiff(p, np.zeros((5, 64, 64), np.uint8), photometric="minisblack"),
        "expected an image",
    ),
    "stack": (
        "a.tif",
        lambda p: tiff(p, np.zeros((4, 64, 64, 3), np.uint8)),
        "4 x 64 x 64 x 3; expected an image",
    ),
    "floats": ("a.tif", lambda p: tiff(p, np.zeros((64, 64, 3), np.float32)), "float32 pixels"),
    "other-file": ("a.ome.tif", foreign_planes, "expected an image"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_damaged_and_unknown_images_are_told_in_words(tmp_path: Path, kind: str) -> None:
    name, write, message = MALFORMED[kind]
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / name)
    with pytest.raises(SencaError, match=message):
        image_size(tmp_path / "in" / name, MAX)


def test_a_slide_larger_than_allowed_is_refused(folder: Path) -> None:
    with pytest.raises(SencaError, match="declares 301 x 203 pixels; expected at most 61,102"):
        open_picture(folder / "slide.svs", WIDTH * HEIGHT - 1)
    with open_picture(folder / "slide.svs", WIDTH * HEIGHT):
        pass


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(["bigtiff-tiles", "pages", "ome", "ome-cyx", "slide"]),
    at=st.floats(0, 1, exclude_max=True),
    value=st.binary(min_size=1, max_size=8),
)
def test_whatever_bytes_are_changed_ends_in_pixels_or_words(
    folder: Path, kind: str, at: float, value: bytes
) -> None:
    source = folder / "slide.svs" if kind == "slide" else file_of(folder, kind)
    content = bytearray(source.read_bytes())
    place = int(at * at * len(content))  # more often where the tags are
    content[place : place + len(value)] = value
    changed = folder / f"changed{source.suffix}"
    changed.write_bytes(content)
    try:
        with open_picture(changed, 10_000_000) as picture:
            picture.check()
            assert picture.window(0, 0, 100, 100, (32, 32)).shape == (32, 32, 3)
    except SencaError:
        pass
