"""SAMPLE_regions.geojson: the outline of every region, as QuPath imports annotations.

QuPath counts pixels of the full-resolution image from its top left corner, y downwards, as shards do.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from senca_ray.analysis.outlines import region_outlines
from senca_ray.export.section import PIXELS, ExportedSection
from senca_ray.files import write_text

_PIXEL_GRID, _SPOT_GRID = 0.01, 1e-4
"""Coordinates are rounded to this, in pixels and in spot distances."""


def geojson_name(section: ExportedSection) -> str:
    """Name of the file; of a section without image it says that positions are no pixels."""
    return f"{section.sample.name}_regions{'' if section.unit == PIXELS else '_spots'}.geojson"


def section_outlines(section: ExportedSection) -> dict[int, shapely.MultiPolygon]:
    """The outline of every region in the section's unit, cut at the edges of the image.

    Raises SencaError where spots lie at the same place.
    """
    found = region_outlines(section.places, section.spacing, section.portrait.regions)
    grid = _PIXEL_GRID if section.unit == PIXELS else _SPOT_GRID
    edges = None
    if section.image is not None:
        height, width = (side / section.image_scale for side in section.image.shape[:2])
        edges = shapely.box(0, 0, np.floor(width), np.floor(height))
    outlines = {}
    for region, outline in found.items():
        cut = outline if edges is None else shapely.intersection(outline, edges)
        parts = shapely.get_parts(shapely.set_precision(cut, grid))
        polygons = [part for part in parts if part.geom_type == "Polygon"]
        outlines[region] = shapely.orient_polygons(shapely.MultiPolygon(polygons))
    return outlines


def region_features(section: ExportedSection, outlines: dict[int, shapely.MultiPolygon]) -> dict[str, Any]:
    """The FeatureCollection of a section: an annotation a region."""
    portrait, name = section.portrait, section.sample.name
    features = []
    for region, outline in outlines.items():
        inside = portrait.regions == region
        colour = section.colours[region]
        measured: dict[str, float] = {
            "region": region,
            "regions in section": portrait.k,
            "spots": int(inside.sum()),
            "share of spots": portrait.shares[region],
        }
        if portrait.kinds:
            measured["kind"] = portrait.kinds[region]
        if region in portrait.confidence_by_region:
            measured["mean confidence"] = portrait.confidence_by_region[region]
        features.append(
            {
                "type": "Feature",
                "geometry": shapely.geometry.mapping(
                    outline.geoms[0] if len(outline.geoms) == 1 else outline
                ),
                "properties": {
                    "objectType": "annotation",
                    "name": f"{name} region {region}",
                    "classification": {
                        "name": f"kind {portrait.kinds[region]}" if portrait.kinds else f"region {region}",
                        "color": [int(colour[i : i + 2], 16) for i in (1, 3, 5)],
                    },
                    "measurements": measured,
                },
            }
        )
    told = {"sample": name, "unit": section.unit, **section.about}
    return {"type": "FeatureCollection", "senca": told, "features": features}


def write_geojson(section: ExportedSection, outlines: dict[int, shapely.MultiPolygon], path: Path) -> None:
    """Write a section's regions, whole or not at all; raises SencaError when the disk refuses."""
    write_text(path, json.dumps(region_features(section, outlines)))
