"""SAMPLE.zarr: a section as SpatialData, with spots, regions and image in one frame. An optional extra."""

from __future__ import annotations

import importlib.util
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import shapely

from senca_ray.errors import SencaError
from senca_ray.export.anndata_file import SPOT_DIAMETER, section_anndata
from senca_ray.export.section import ExportedSection

NEEDED = "pip install 'senca-ray[spatialdata]'"
_FRAME = "global"
"""Spatialdata's own name of the frame that elements share unless told otherwise."""


def missing() -> str:
    """What lacks for writing zarr, with the command that installs it; empty where nothing does."""
    if importlib.util.find_spec("spatialdata") is None:
        return f"the package spatialdata is not installed; install it with {NEEDED}"
    return ""


def write_zarr(section: ExportedSection, outlines: dict[int, shapely.MultiPolygon], path: Path) -> None:
    """Write a section as SpatialData in place of an earlier one; raises SencaError when the disk refuses.

    Elements SAMPLE_spots (circles), SAMPLE_regions (polygons), SAMPLE_image and the table, which annotates
    the spots; all in the section's unit.
    """
    import geopandas
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Identity, Scale

    name, spots = section.sample.name, f"{section.sample.name}_spots"
    circles = ShapesModel.parse(
        section.places,
        geometry=0,
        radius=SPOT_DIAMETER * section.spacing / 2,
        index=list(section.spots),
        transformations={_FRAME: Identity()},
    )
    regions = geopandas.GeoDataFrame(
        {
            "region": list(outlines),
            "color": [section.colours[region] for region in outlines],
            "geometry": list(outlines.values()),
        },
        index=[str(region) for region in outlines],
    )
    table = section_anndata(section)
    table.obs["element"], table.obs["spot"] = spots, list(section.spots)
    table.obs["element"] = table.obs["element"].astype("category")
    elements = {
        spots: circles,
        f"{name}_regions": ShapesModel.parse(regions, transformations={_FRAME: Identity()}),
        "table": TableModel.parse(table, region=spots, region_key="element", instance_key="spot"),
    }
    if section.image is not None:
        enlarged = Scale([1 / section.image_scale] * 2, axes=("x", "y"))
        elements[f"{name}_image"] = Image2DModel.parse(
            np.moveaxis(section.image, -1, 0),
            dims=("c", "y", "x"),
            c_coords=["r", "g", "b"],
            transformations={_FRAME: enlarged},
        )
    temporary, earlier = (path.with_name(f".{path.name}.{os.getpid()}.{word}") for word in ("tmp", "old"))
    try:
        with warnings.catch_warnings():
            # What two libraries below tell their developers.
            warnings.filterwarnings("ignore", "Call to deprecated class Scaler", DeprecationWarning)
            warnings.filterwarnings("ignore", "zarr v3 autosharding", UserWarning)
            SpatialData.init_from_elements(elements).write(temporary)
        if path.exists():
            path.rename(earlier)
        temporary.rename(path)
    except OSError as error:
        if earlier.exists() and not path.exists():
            earlier.rename(path)
        raise SencaError(
            f"{path}: cannot be written ({error}); free space or allow writing there, then run it again"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(earlier, ignore_errors=True)
