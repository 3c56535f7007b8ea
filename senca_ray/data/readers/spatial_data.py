"""SpatialData (.zarr), one section a region that a table annotates. An optional extra."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from senca_ray import keys
from senca_ray.data.readers import anndata_elements as elements
from senca_ray.data.readers import anndata_table, positions
from senca_ray.data.readers.findings import Findings
from senca_ray.data.readers.spatial_data_image import Placed, keep_image, placed
from senca_ray.data.readers.tables import quantity, quote
from senca_ray.data.section import SAMPLE_ID, RawSection, SectionFiles
from senca_ray.errors import Problem, ProblemsError, SencaError

_SUFFIX = ".zarr"
_METADATA = (".zarray", ".zmetadata", "zarr.json")


class SpatialDataReader:
    """Reads SpatialData stores, as spatialdata, spatialdata-io and `senca export` write them.

    Every region that a table annotates is a section: counts, labels, patient and array coordinates come from
    the table as from an h5ad, positions from the centroids of the region's shapes (without shapes from
    `obsm['spatial']`), and the image is the first that shares a coordinate system with them.
    """

    name = "spatialdata"
    expects = "a store SAMPLE.zarr with tables, or a folder of them"

    def recognises(self, root: Path) -> bool:
        """Whether `root` looks like this format."""
        return bool(_stores(root))

    def find(self, root: Path) -> list[SectionFiles]:
        """List the sections under `root`, sorted by sample id; raises ProblemsError."""
        _need_package()
        stores = _stores(root)
        problems: list[Problem] = []
        if not stores:
            problems.append(Problem("-", str(root), f"no sections found; expected {self.expects}; add them"))
        sections: list[SectionFiles] = []
        for store in stores:
            try:
                sections += _sections(root if store != root else root.parent, store)
            except SencaError as error:
                problems.append(Problem(_stem(store), store.name, str(error)))
        if problems:
            raise ProblemsError(problems, quantity(len(stores), "store"))
        return sorted(sections, key=lambda s: s.sample)

    def read(self, files: SectionFiles, max_image_pixels: int) -> RawSection:
        """Read and check one section; raises ProblemsError with everything wrong in it.

        The image is written into the cache, and `files.image` of the section names it there.
        """
        _need_package()
        findings, path = Findings(files), files.counts
        if files.labels is not None:
            message = "label file for SpatialData; expected labels in obs; name their column as label_column"
            findings.problem(files.labels, message)
        table: anndata_table.Table | None = None
        spots = Placed(None, None, None)
        with findings.collecting(path):
            group, region = _region(path, files.part)
            rows = _rows(group, region)
            table = anndata_table.read_table(findings, path, group, rows)
            if table is not None:
                spots = _placed(findings, path, group, region, table)
        if table is None or spots.xy is None or findings.problems:
            raise ProblemsError(findings.problems, "1 section")
        pixel_xy = None
        if spots.image is not None:
            with findings.collecting(path):
                kept = keep_image(findings, path, spots, max_image_pixels)
                if kept is not None:
                    findings.files = dataclasses.replace(files, image=kept.path)
                    pixel_xy = spots.xy
                    if wrong := positions.frame_problem(pixel_xy, kept.size):
                        findings.problem(
                            path, f"region {quote(region)} in {quote(spots.name or '')}: {wrong}"
                        )
        return anndata_table.section_of(findings, path, table, spots.xy, pixel_xy)


def _need_package() -> None:
    if importlib.util.find_spec("spatialdata") is None:
        raise SencaError(
            "the package spatialdata is not installed, which reads .zarr stores; install it with "
            "pip install 'senca-ray[spatialdata]'"
        )


def _stem(store: Path) -> str:
    return store.name.removesuffix(_SUFFIX)


def _stores(root: Path) -> list[Path]:
    """Stores with tables: `root` itself, or those in it."""
    found = (
        [root] if root.suffix == _SUFFIX else sorted(root.glob(f"[!.]*{_SUFFIX}")) if root.is_dir() else []
    )
    return [store for store in found if (store / "tables").is_dir()]


def _sections(base: Path, store: Path) -> list[SectionFiles]:
    """One section a region of a store; raises SencaError."""
    if not SAMPLE_ID.fullmatch(_stem(store)):
        raise SencaError(
            f"sample id {_stem(store)!r:.80}; expected letters, digits, '-', '_', '.'; rename the store"
        )
    regions = [(table, group, region) for table, group in _tables(store) for region in _annotated(group)]
    if not regions:
        raise SencaError("no table that annotates a region; expected one with counts; add it")
    names = [region for _, _, region in regions]
    sections = []
    for table, group, region in regions:
        inner = region if names.count(region) == 1 else f"{table}-{region}"
        sample = _stem(store) if len(regions) == 1 else f"{_stem(store)}-{inner}"
        files = SectionFiles(
            sample=sample,
            patient=_stem(store),
            label_source=keys.UNLABELLED,
            root=base,
            format=SpatialDataReader.name,
            counts=store,
            part=None if len(regions) == 1 else f"{table}/{region}",
        )
        sections.append(anndata_table.with_about(files, anndata_table.about(group, _rows(group, region))))
    return sections


def _tables(store: Path) -> Iterator[tuple[str, Any]]:
    """Name and group of every table of a store, after a look at what reading it would run."""
    import zarr

    _refuse_pickles(store)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tables = zarr.open_group(store / "tables", mode="r")
            found = [(name, tables[name]) for name in sorted(tables)]
    except Exception as error:  # noqa: BLE001 - damaged stores raise all kinds of errors
        raise SencaError(
            f"its tables cannot be opened ({' '.join(str(error).split())[:200]}); expected a whole store of "
            "SpatialData; copy it again"
        ) from None
    yield from found


def _refuse_pickles(store: Path) -> None:
    """Raise SencaError for a store whose pieces would be unpickled, which can run any code."""
    for path in store.rglob("*"):
        if path.name not in _METADATA or not path.is_file():
            continue
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise SencaError(
                f"{path.relative_to(store)} cannot be read as JSON ({error}); copy the store again"
            ) from None
        except RecursionError:
            raise SencaError(
                f"{path.relative_to(store)} is nested too deeply; copy the store again"
            ) from None
        waiting = [content]
        while waiting:
            item = waiting.pop()
            if isinstance(item, dict):
                if any("pickle" in str(item.get(key, "")).lower() for key in ("id", "name")):
                    raise SencaError(
                        f"{path.relative_to(store)} holds pickled data, which is never read here, as it can "
                        "run any code; write the store again without"
                    )
                waiting += item.values()
            elif isinstance(item, list):
                waiting += item


def _annotated(group: Any) -> list[str]:
    """The regions that a table annotates, sorted."""
    region = group.attrs.get("region") if hasattr(group, "attrs") else None
    return sorted({str(r) for r in ([region] if isinstance(region, str) else region or [])})


def _region(store: Path, part: str | None) -> tuple[Any, str]:
    """Table and region of a section; raises SencaError where they are not there any more."""
    for table, group in _tables(store):
        for region in _annotated(group):
            if part in (None, f"{table}/{region}"):
                return group, region
    raise SencaError(f"no table annotates {part or 'a region'}; expected one; look at the store again")


def _rows(group: Any, region: str) -> np.ndarray:
    """(all spots,) bool which rows of a table annotate a region; raises SencaError."""
    column = elements.member(group, f"obs/{group.attrs.get('region_key')}")
    if column is None:
        raise SencaError(
            "no column in obs tells the regions; expected the table's region_key; write it again"
        )
    return np.asarray(pd.Series(elements.read(column, "the column of regions")).astype(str) == region)


def _placed(findings: Findings, path: Path, group: Any, region: str, table: anndata_table.Table) -> Placed:
    """Positions of a table's spots, in the pixels of an image where there is one."""
    key = str(group.attrs.get("instance_key"))
    column = elements.member(group, f"obs/{key}")
    instances = None
    if column is not None:
        instances = np.asarray(pd.Series(elements.read(column, f"obs[{quote(key)}]")))[table.kept]
    found = placed(findings, path, region, instances)
    if found.xy is not None:
        return found
    # Labels or nothing at all stand behind the table: the positions that it holds itself are in pixels.
    places = anndata_table.read_positions(group)
    if len(places) <= table.kept.max():
        raise SencaError(f"obsm['spatial'] has {len(places):,} rows; expected one a spot; write it again")
    return dataclasses.replace(found, xy=places[table.kept])
