"""10x Visium: the outs folders of Space Ranger."""

from __future__ import annotations

from pathlib import Path

from senca_ray import keys
from senca_ray.data.readers.positions import VISIUM_UM
from senca_ray.data.readers.tenx import Kind, read_section
from senca_ray.data.readers.tenx_layout import (
    POSITIONS,
    SPATIAL,
    Listing,
    first_file,
    image_files,
    matrix_of,
    one_matrix,
    section_folders,
)
from senca_ray.data.section import RawSection, SectionFiles

DIAMETERS = (0.8, 4.0)
"""Spots of 55 micrometres are 100 apart, and Space Ranger gives diameters of 55 to 65."""


class VisiumReader:
    """Reads outs folders of Space Ranger: one, or SAMPLE/ or SAMPLE/outs/ of several.

    `filtered_feature_bc_matrix.h5` (PREFIX_ allowed) or the folder `filtered_feature_bc_matrix`,
    `spatial/tissue_positions.csv` (version 2 and later, with a header) or `tissue_positions_list.csv`
    (version 1, without), `spatial/scalefactors_json.json`, and an image: one of full resolution beside
    (SAMPLE, image, tissue_image, fullres_image or *_image, as TIFF, SVS, NDPI, JPEG or PNG), else
    tissue_hires_image, else tissue_lowres_image. The sample id is the folder's name, the patient the sample.
    Labels come from the file that a cohort file names, a CSV keyed by barcode.
    """

    name = "visium"
    expects = (
        "an outs folder of Space Ranger (filtered_feature_bc_matrix.h5 or folder, "
        "spatial/tissue_positions.csv or tissue_positions_list.csv), or SAMPLE/ or SAMPLE/outs/ of several"
    )

    def recognises(self, root: Path) -> bool:
        """Whether `root` looks like this format."""
        return next(section_folders(root, _holds), None) is not None

    def find(self, root: Path) -> list[SectionFiles]:
        """List the sections under `root`, sorted by sample id; raises ProblemsError."""
        listing = Listing(root)
        sections: list[SectionFiles] = []
        for sample, folder in section_folders(root, _holds):
            if not listing.named_well(sample, folder):
                continue
            spatial = folder / SPATIAL
            counts, positions = one_matrix(listing, sample, folder), first_file(spatial, POSITIONS)
            image, others = image_files(listing, sample, folder, spatial)
            if positions is None:
                message = f"no {SPATIAL}/{' or '.join(POSITIONS)}; expected the spots' positions"
                listing.problem(sample, folder, f"{message}; copy the folder spatial")
            if counts is None or positions is None:
                continue
            sections.append(
                SectionFiles(
                    sample=sample,
                    patient=sample,
                    label_source=keys.UNLABELLED,
                    root=root,
                    format=self.name,
                    counts=counts,
                    spots=positions,
                    image=image,
                    others=others,
                )
            )
        if not sections and not listing.problems:
            listing.problem("-", root, f"no sections found; expected {self.expects}; name that folder")
        return listing.done(sections)

    def read(self, files: SectionFiles, max_image_pixels: int) -> RawSection:
        """Read and check one section; raises ProblemsError with everything wrong in it.

        `xy` is in spot distances of the hexagonal array. Only spots on tissue and features of the type Gene
        Expression are kept; genes of one symbol are told apart by their ids.
        """
        assert files.spots is not None
        kind = Kind(
            spot_distance_um=VISIUM_UM,
            hexagonal=True,
            diameters=DIAMETERS,
            # CytAssist images the slide from its other side.
            one_handed=not any(files.spots.parent.glob("*cytassist*")),
        )
        return read_section(files, max_image_pixels, kind)


def _holds(folder: Path) -> bool:
    """Whether a folder has counts or positions of a Visium section."""
    return first_file(folder / SPATIAL, POSITIONS) is not None or (
        (folder / SPATIAL).is_dir() and bool(matrix_of(folder))
    )
