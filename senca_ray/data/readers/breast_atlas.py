"""The breast-cancer atlas (Wu et al., Nature Genetics 2021; its archives at Zenodo, record 4739739)."""

from __future__ import annotations

from pathlib import Path

from senca_ray import keys
from senca_ray.data.readers.positions import VISIUM_UM
from senca_ray.data.readers.tables import MISSING, quantity, quote_some
from senca_ray.data.readers.tenx import Kind, read_section
from senca_ray.data.readers.tenx_layout import POSITIONS, SPATIAL, Listing, first_file, image_files
from senca_ray.data.readers.tenx_text import read_csv
from senca_ray.data.readers.visium import DIAMETERS
from senca_ray.data.section import SAMPLE_ID, RawSection, SectionFiles
from senca_ray.errors import SencaError

MATRICES, METADATA = "filtered_count_matrices", "metadata"
MATRIX_SUFFIX, METADATA_SUFFIX, SPATIAL_SUFFIX = "_filtered_count_matrix", "_metadata.csv", "_spatial"
LABEL_COLUMN, PATIENT_COLUMN = "Classification", "patientid"

UNSURE = frozenset({"uncertain", "artefact", "artifact"})
"""Classes that name a fault of the slide or of its reading and no tissue: nobody can say what lies there."""


class BreastAtlasReader:
    """Reads the atlas's Visium sections, as its archives unpack.

    `filtered_count_matrices/SAMPLE_filtered_count_matrix/` (Matrix Market; gene symbols only; plain text in
    spite of its names), `spatial/SAMPLE_spatial/` as Space Ranger writes it, and
    `metadata/SAMPLE_metadata.csv` with the pathologist's labels in the column Classification; without it the
    section has no labels. The spots are those of the matrix, which the authors chose: some are off tissue by
    in_tissue. The patient is the metadata's patientid, else the sample id.
    """

    name = "breast_atlas"
    expects = f"folders {MATRICES}/SAMPLE{MATRIX_SUFFIX}, {SPATIAL}/SAMPLE{SPATIAL_SUFFIX} and {METADATA}"

    def recognises(self, root: Path) -> bool:
        """Whether `root` looks like this format."""
        return bool(_matrices(root))

    def find(self, root: Path) -> list[SectionFiles]:
        """List the sections under `root`, sorted by sample id; raises ProblemsError."""
        listing = Listing(root)
        sections: list[SectionFiles] = []
        for counts in _matrices(root):
            sample = counts.name.removesuffix(MATRIX_SUFFIX)
            if not listing.named_well(sample, counts):
                continue
            spatial = root / SPATIAL / f"{sample}{SPATIAL_SUFFIX}"
            positions = first_file(spatial, POSITIONS)
            if positions is None:
                message = f"no {spatial.relative_to(root).as_posix()}/{POSITIONS[-1]}; expected the positions"
                listing.problem(sample, counts, f"{message}; unpack the archive spatial.tar.gz beside")
                continue
            image, others = image_files(listing, sample, spatial, spatial)
            labels = first_file(root / METADATA, (f"{sample}{METADATA_SUFFIX}",))
            sections.append(
                SectionFiles(
                    sample=sample,
                    patient=_patient(listing, sample, labels),
                    label_source=keys.UNLABELLED if labels is None else keys.ANNOTATED,
                    root=root,
                    format=self.name,
                    counts=counts,
                    spots=positions,
                    labels=labels,
                    image=image,
                    others=others,
                )
            )
        if not sections and not listing.problems:
            listing.problem("-", root, f"no sections found; expected {self.expects}; name that folder")
        return listing.done(sections)

    def read(self, files: SectionFiles, max_image_pixels: int) -> RawSection:
        """Read and check one section; raises ProblemsError with everything wrong in it."""
        kind = Kind(
            VISIUM_UM,
            hexagonal=True,
            diameters=DIAMETERS,
            one_handed=True,
            tissue_only=False,
            label_column=LABEL_COLUMN,
            unsure=UNSURE,
        )
        return read_section(files, max_image_pixels, kind)


def _matrices(root: Path) -> list[Path]:
    found = (root / MATRICES).glob(f"*{MATRIX_SUFFIX}")
    return sorted(p for p in found if p.is_dir() and not p.name.startswith("."))


def _patient(listing: Listing, sample: str, metadata: Path | None) -> str:
    """The one patient of the metadata, else the sample id; what is wrong with the file, reading it tells."""
    try:
        header, *rows = read_csv(metadata) if metadata is not None else [[]]
    except SencaError:
        return sample
    if header.count(PATIENT_COLUMN) != 1 or metadata is None:
        return sample
    place = header.index(PATIENT_COLUMN)
    named = sorted({row[place].strip() for row in rows} - set(MISSING))
    if len(named) > 1:
        message = f"{quantity(len(named), 'patient')} in {PATIENT_COLUMN}: {quote_some(named)}"
        listing.problem(
            sample, metadata, f"{message}; expected one; the metadata of several sections are mixed"
        )
    elif named and not SAMPLE_ID.fullmatch(named[0]):
        message = f"{PATIENT_COLUMN} {quote_some(named)}; expected letters, digits, '-', '_', '.'; correct it"
        listing.problem(sample, metadata, message)
    return named[0] if len(named) == 1 else sample
