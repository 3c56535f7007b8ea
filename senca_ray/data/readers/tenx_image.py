"""The image of a 10x section: which of several is used, and the spots' positions in its pixels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from senca_ray.data.readers.findings import Findings
from senca_ray.data.readers.image import image_size
from senca_ray.data.readers.positions import frame_problem, swapped
from senca_ray.data.readers.tables import quantity
from senca_ray.data.readers.tenx_positions import Positions
from senca_ray.data.readers.tenx_text import read_json
from senca_ray.errors import SencaError

SCALE_FACTORS, HIRES = "scale factors", "hires image"
"""What `SectionFiles.others` holds of a 10x section."""
SCALE_FILE = "scalefactors_json.json"

_REDUCED = {"tissue_hires_image": "tissue_hires_scalef", "tissue_lowres_image": "tissue_lowres_scalef"}
"""Images that Space Ranger makes, best first, and their scale: pixels a pixel of full resolution."""
_DIAMETER = "spot_diameter_fullres"
_SUFFIXES = (".tif", ".tiff", ".btf", ".svs", ".ndpi", ".jpg", ".jpeg", ".png")
_FULL_NAMES = ("image", "tissue_image", "fullres_image")


def full_images(folders: Iterable[Path], sample: str) -> list[Path]:
    """Images of full resolution in `folders`: SAMPLE, image, tissue_image, fullres_image or *_image.

    Those that Space Ranger makes itself, and CytAssist's own, are none.
    """
    found = []
    for path in sorted(p for folder in folders for p in folder.glob("*")):
        name = path.stem.lower().removesuffix(".ome")
        ours = name in (sample.lower(), *_FULL_NAMES) or name.endswith("_image")
        made = "cytassist" in name or name.endswith((*_REDUCED, "detected_tissue_image"))
        hidden = path.name.startswith(".")
        if path.suffix.lower() in _SUFFIXES and ours and not made and not hidden and path.is_file():
            found.append(path)
    return found


def reduced_image(spatial: Path, name: str | None = None) -> Path | None:
    """The hires image in a spatial folder, else the lowres one; with `name` only that one."""
    names = [name] if name else list(_REDUCED)
    paths = (spatial / f"{n}{suffix}" for n in names for suffix in (".png", ".jpg", ".jpeg", ".tif"))
    return next((path for path in paths if path.is_file()), None)


def hires_image(spatial: Path) -> Path | None:
    """Space Ranger's hires image in a spatial folder."""
    return reduced_image(spatial, next(iter(_REDUCED)))


def read_frame(findings: Findings, max_pixels: int) -> tuple[tuple[int, int], float, float] | None:
    """Size of the image, its pixels a pixel of full resolution, and the diameter of a spot in the latter.

    None without an image, or with problems.
    """
    files = findings.files
    if files.image is None:
        return None
    size = None
    with findings.collecting(files.image):
        size = image_size(files.image, max_pixels)
    path = files.others.get(SCALE_FACTORS)
    if path is None:
        place = files.spots.parent if files.spots is not None else files.counts
        findings.problem(
            place, f"no {SCALE_FILE}; expected it beside the positions; copy it, or remove the image"
        )
        return None
    with findings.collecting(path):
        factors = read_json(path)
        name = _REDUCED.get(files.image.stem)
        scale = 1.0 if name is None else _factor(factors, name)
        diameter = _factor(factors, _DIAMETER)
        hires = files.others.get(HIRES)
        if name is None and hires is not None and size is not None:
            _check_full_size(
                findings, size, hires, _factor(factors, next(iter(_REDUCED.values()))), max_pixels
            )
        return None if size is None else (size, scale, diameter)
    return None


def _factor(factors: dict[str, object], name: str) -> float:
    """A scale factor; raises SencaError when it is missing or no positive number."""
    if name not in factors:
        found = ", ".join(sorted(factors)[:6])[:120] or "nothing"
        raise SencaError(f"no {name}; found {found}; expected Space Ranger's scale factors; copy the file")
    value = factors[name]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e6:
        raise SencaError(f"{name} is {value!r:.40}; expected a positive number; copy the file again")
    return float(value)


def _check_full_size(
    findings: Findings, size: tuple[int, int], hires: Path, scale: float, max_pixels: int
) -> None:
    """Tell an image beside the section that is not the one it was made from."""
    with findings.collecting(hires):
        reduced = image_size(hires, max_pixels)
        expected = [side / scale for side in reduced]
        if any(abs(s * scale - r) > 2 + 0.01 * r for s, r in zip(size, reduced, strict=True)):
            assert findings.files.image is not None
            findings.problem(
                findings.files.image,
                f"{size[0]:,} x {size[1]:,} pixels, but the hires image and its scale factor tell of about "
                f"{expected[0]:,.0f} x {expected[1]:,.0f}; expected the image that Space Ranger was given; "
                "put that here, or remove this one",
            )


def match_pixels(
    findings: Findings,
    positions: Positions,
    rows: np.ndarray,
    xy: np.ndarray,
    frame: tuple[tuple[int, int], float, float],
    *,
    diameters: tuple[float, float],
    one_handed: bool,
) -> np.ndarray | None:
    """(N, 2) pixel positions of the spots at `rows` in the section's image; None with a problem.

    `xy` (N, 2) are their places on the array in spot distances, which lie within `diameters` spot diameters.
    `one_handed`: the image is not mirrored against the array, so crossed axes are swapped columns.
    """
    size, scale, diameter = frame
    full = positions.pixel[rows]
    found = _against_array(xy, full, diameter, diameters)
    pixel = full * scale
    if not found and one_handed and swapped(xy, full):
        found = (
            "pxl_row_in_fullres goes with array_col and pxl_col_in_fullres with array_row; expected rows "
            "with rows; x and y are probably swapped: swap the two columns (an image that is mirrored and "
            "turned by a quarter looks so too: mirror it back, with its positions)"
        )
    if not found:
        everywhere = positions.pixel * scale
        inside: np.ndarray = np.all((everywhere >= 0) & (everywhere < size), axis=1)
        # The whole array tells a corner better than the tissue on it.
        found = frame_problem(everywhere[inside] if inside[rows].all() else pixel, size)
    if found and findings.files.spots is not None:
        findings.problem(findings.files.spots, found)
    return None if found else pixel


def _against_array(xy: np.ndarray, pixel: np.ndarray, diameter: float, diameters: tuple[float, float]) -> str:
    """What is wrong with pixel positions (N, 2) of spots at `xy` (N, 2); '' for nothing or too few spots."""
    known = np.column_stack([xy, np.ones(len(xy))])
    fit, _, rank, _ = np.linalg.lstsq(known, pixel, rcond=None)
    if rank < 3:
        return ""
    most, least = np.linalg.svd(fit[:2], compute_uv=False)
    error = float(np.sqrt(np.mean((known @ fit - pixel) ** 2)))
    if error > 0.5 * most or most > 1.5 * least:
        return (
            f"pixel positions do not follow the array coordinates ({quantity(len(xy), 'spot')}); expected "
            "pxl_row_in_fullres and pxl_col_in_fullres to rise evenly with array_row and array_col or "
            "against them; columns are probably swapped, or rows mixed up: copy the file again"
        )
    ratio = float(np.sqrt(most * least)) / diameter
    if not diameters[0] <= ratio <= diameters[1]:
        return (
            f"adjacent spots are {ratio * diameter:.3g} pixels apart, but spot_diameter_fullres is "
            f"{diameter:.3g}; expected {diameters[0]:g} to {diameters[1]:g} times as much; the positions are "
            "probably in the frame of another image: give them in pixels of the full-resolution image"
        )
    return ""
