"""AnnData files (.h5ad), one section a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from senca_ray import keys
from senca_ray.data.readers import anndata_elements as elements
from senca_ray.data.readers import anndata_table, embedded, positions
from senca_ray.data.readers.findings import Findings
from senca_ray.data.readers.image import image_size
from senca_ray.data.readers.tables import quote_some
from senca_ray.data.section import SAMPLE_ID, RawSection, SectionFiles
from senca_ray.errors import Problem, ProblemsError, SencaError

_SUFFIX = ".h5ad"
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".ome.tif", ".ome.tiff")


class H5adReader:
    """Reads AnnData files, as scanpy and `senca export` write them.

    A file holds one section: `obsm['spatial']` in pixels of the full-resolution image, raw counts in X,
    layers['counts'] or raw.X (the first that holds whole numbers), and perhaps array coordinates in
    obs['array_row'] and obs['array_col'], labels in obs['label'] or the column that the cohort file names,
    and the patient in obs['patient']. The image is SAMPLE.jpg, .png or .tif beside the file, in full
    resolution, else the 'hires' image in uns['spatial'].
    """

    name = "h5ad"
    expects = "a file SAMPLE.h5ad, or a folder of them"

    def recognises(self, root: Path) -> bool:
        """Whether `root` looks like this format."""
        return bool(_files(root))

    def find(self, root: Path) -> list[SectionFiles]:
        """List the sections under `root`, sorted by sample id; raises ProblemsError."""
        base = root.parent if root.suffix == _SUFFIX and not root.is_dir() else root
        paths = _files(root)
        problems: list[Problem] = []
        if not paths:
            problems.append(Problem("-", str(root), f"no sections found; expected {self.expects}; add them"))
        sections = []
        for path in paths:
            sample = path.name.removesuffix(_SUFFIX)
            images = [p for s in _IMAGE_SUFFIXES if (p := path.with_name(sample + s)).is_file()]
            if not SAMPLE_ID.fullmatch(sample):
                message = (
                    f"sample id {sample!r:.80}; expected letters, digits, '-', '_', '.'; rename the file"
                )
                problems.append(Problem("-", path.name, message))
            elif not path.is_file():
                message = "not a file; expected a file; remove it, or repair the link"
                problems.append(Problem(sample, path.name, message))
            elif len(images) > 1:
                names = ", ".join(p.name for p in images)
                message = f"{len(images)} images: {names}; expected one; remove the others"
                problems.append(Problem(sample, path.name, message))
            else:
                sections.append(_section(base, path, sample, images[0] if images else None))
        if problems:
            raise ProblemsError(problems, f"{len(paths)} files")
        return sections

    def read(self, files: SectionFiles, max_image_pixels: int) -> RawSection:
        """Read and check one section; raises ProblemsError with everything wrong in it.

        An image inside the file is written into the cache, and `files.image` of the section names it there.
        """
        findings, path = Findings(files), files.counts
        if files.labels is not None:
            message = "label file for an h5ad; expected labels in obs; name their column as label_column"
            findings.problem(files.labels, message)
        table = places = None
        pixel_xy: np.ndarray | None = None
        with findings.collecting(path), elements.open_h5(path) as group:
            table = anndata_table.read_table(findings, path, group)
            with findings.collecting(path):
                places = anndata_table.read_positions(group)
            if table is not None and places is not None:
                places = _rows(places, table)
            with findings.collecting(files.image or path):
                pixel_xy = _image(findings, group, places, max_image_pixels)
        if table is None or places is None or findings.problems:
            raise ProblemsError(findings.problems, "1 section")
        return anndata_table.section_of(findings, path, table, places, pixel_xy)


def _rows(places: np.ndarray, table: anndata_table.Table) -> np.ndarray:
    if len(places) <= table.kept.max():
        raise SencaError(
            f"obsm['spatial'] has {len(places):,} rows; expected one a spot; write the file again"
        )
    return places[table.kept]


def _files(root: Path) -> list[Path]:
    if root.is_dir():
        return sorted(p for p in root.glob(f"*{_SUFFIX}") if not p.name.startswith("."))
    return [root] if root.suffix == _SUFFIX and (root.is_file() or root.is_symlink()) else []


def _section(base: Path, path: Path, sample: str, image: Path | None) -> SectionFiles:
    files = SectionFiles(
        sample=sample,
        patient=sample,
        label_source=keys.UNLABELLED,
        root=base,
        format=H5adReader.name,
        counts=path,
        image=image,
    )
    try:
        with elements.open_h5(path) as group:
            return anndata_table.with_about(files, anndata_table.about(group))
    except (SencaError, OSError, ValueError, RuntimeError, KeyError, AttributeError):
        # Listing goes on; reading the damaged file will say what is wrong with it.
        return files


def _image(
    findings: Findings, group: Any, places: np.ndarray | None, max_image_pixels: int
) -> np.ndarray | None:
    """(N, 2) positions in the section's image; None without one. An image inside the file is kept."""
    beside = findings.files.image
    if beside is not None:
        size, scale = image_size(beside, max_image_pixels), 1.0
    else:
        found = _embedded(findings, group, max_image_pixels)
        if found is None:
            return None
        pixels, scale = found
        size = (pixels.shape[1], pixels.shape[0])
        findings.files = dataclasses.replace(findings.files, image=embedded.keep_png(pixels))
    if places is None:
        return None
    pixel_xy = places * scale
    if wrong := positions.frame_problem(pixel_xy, size):
        where = "obsm['spatial']" if scale == 1 else f"obsm['spatial'] times tissue_hires_scalef, {scale:g}"
        findings.problem(findings.files.counts, f"{where}: {wrong}")
    return pixel_xy


def _embedded(findings: Findings, group: Any, max_image_pixels: int) -> tuple[np.ndarray, float] | None:
    """The 'hires' image (H, W, 3) uint8 of uns['spatial'] and its scale; None without one."""
    libraries = elements.member(group, "uns/spatial")
    names = sorted(libraries) if libraries is not None and hasattr(libraries, "keys") else []
    if len(names) > 1:
        raise SencaError(
            f"uns['spatial'] holds {len(names)} libraries: {quote_some(names)}; expected one section a file; "
            "write a file for each"
        )
    image = elements.member(group, f"uns/spatial/{names[0]}/images/hires") if names else None
    if image is None or not hasattr(image, "shape"):
        return None
    shape = tuple(image.shape)
    if len(shape) not in (2, 3) or 0 in shape or shape[0] * shape[1] > max_image_pixels:
        raise SencaError(
            f"the hires image in uns['spatial'] declares {' x '.join(f'{n:,}' for n in shape)} values; "
            f"expected height x width x 3, at most {max_image_pixels:,} pixels; put a usable image beside "
            "the file"
        )
    factor = elements.member(group, f"uns/spatial/{names[0]}/scalefactors/tissue_hires_scalef")
    scale = 0.0 if factor is None else _number(elements.read(factor, "tissue_hires_scalef"))
    if not scale > 0:
        raise SencaError(
            f"no usable tissue_hires_scalef in uns['spatial'][{names[0]!r:.40}]['scalefactors']; expected "
            "the pixels of the hires image a full-resolution pixel; write it there"
        )
    return embedded.as_rgb(np.asarray(elements.read(image, "the hires image"))), scale


def _number(value: Any) -> float:
    """A stored number; 0 for whatever is none."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return 0.0
    return found if np.isfinite(found) else 0.0
