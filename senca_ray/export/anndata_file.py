"""SAMPLE.h5ad: a section with its regions, embedding and image, as scanpy and squidpy open it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from senca_ray import keys
from senca_ray.export.section import ExportedSection
from senca_ray.export.table import codes, section_table
from senca_ray.files import write_whole

if TYPE_CHECKING:
    from anndata import AnnData

SPOT_DIAMETER = 0.5
"""Of a spot, in spot distances, which shards do not say: 100 of 200 µm on the first arrays, 55 of 100 µm on
Visium."""


def section_anndata(section: ExportedSection) -> AnnData:
    """A section as AnnData, without its image."""
    portrait = section.portrait
    data = section_table(
        section.sample, section.spots, portrait.regions, section.about | {"spatial_unit": section.unit}
    )
    data.uns[f"{keys.OBS_REGION}_colors"] = [section.colours[region] for region in sorted(section.colours)]
    if section.kinds is not None:
        from senca_ray.report.maps import colour_of

        data.obs["kind"] = codes(section.kinds)
        data.uns["kind_colors"] = [colour_of(int(kind)) for kind in data.obs["kind"].cat.categories]
    if portrait.confidence is not None:
        data.obs["confidence"] = portrait.confidence
    data.obsm[keys.OBSM_SPATIAL] = np.asarray(section.places, dtype=np.float64)
    if section.embedding is not None:
        data.obsm[keys.OBSM_SENCA] = section.embedding.values
    if portrait.umap is not None:
        data.obsm["X_umap"] = portrait.umap
    return data


def write_anndata(section: ExportedSection, path: Path) -> None:
    """Write a section's h5ad, whole or not at all; raises SencaError when the disk refuses."""
    data = section_anndata(section)
    if section.image is not None:
        data.uns["spatial"] = {
            section.sample.name: {
                "images": {"hires": section.image},
                "scalefactors": {
                    "tissue_hires_scalef": section.image_scale,
                    "spot_diameter_fullres": SPOT_DIAMETER * section.spacing,
                },
            }
        }
    write_whole(path, lambda temporary: data.write_h5ad(temporary, compression="gzip"))
