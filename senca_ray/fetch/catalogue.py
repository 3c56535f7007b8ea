"""The public cohorts that `senca fetch` knows: facts about them, and what of each source goes where.

Nobody here could open the archives themselves: names and layout are those that public code relies on (named
beside each cohort). Sizes are for people; what a server says at the time of the download is what counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from senca_ray.errors import SencaError

GB = 10**9

Choice = Callable[[Iterable[str]], dict[str, str]]
"""Takes the names in a source; gives the path in the cohort's folder of each that the reader wants."""


@dataclass(frozen=True)
class Archive:
    """One file to download and unpack."""

    name: str
    """Its name in the cohort's folder while it is there."""
    address: str
    size: str
    """About how large, in words."""


@dataclass(frozen=True)
class Cohort:
    """A public cohort."""

    name: str
    what: str
    sections: str
    size: str
    """About how much is downloaded, in words."""
    licence: str
    citation: str
    page: str
    """Where a person looks it up."""
    format: str
    """Name of the reader."""
    archives: tuple[Archive, ...]
    """What a person downloads by hand, and `senca fetch` too unless the home lists single files."""
    choose: Choice
    """What of the archives goes where; of the repository for a cohort that is fetched from its `tree`."""
    zenodo: str | None = None
    """Address of the Zenodo record with sizes and md5 of the archives."""
    tree: str | None = None
    """Address of the list of all files of a GitHub repository, with sizes and git's checksums."""
    raw: str = ""
    """Where the single files of that repository are: this, and then the path."""
    limit: int = 20 * GB
    """Bytes that nothing downloaded may exceed, all together."""
    unpacked_limit: int = 60 * GB
    """Bytes that what is unpacked of one archive may not exceed."""


# --- What goes where -------------------------------------------------------------------------------
_COUNTS = re.compile(r"data/ST-cnts/([A-Za-z]+)(\d+)\.tsv(?:\.gz)?")
_IMAGE = r"\.(?:jpe?g|png|tiff?)"


def choose_her2st(names: Iterable[str]) -> dict[str, str]:
    """Counts, spot files, labels and images of the sections that have counts, under their own names.

    The repository also labels a section (J1) without counts, which no reader can use. `names` are those of
    the repository, or of GitHub's zip of it, where all are in one folder.
    """
    inside = {name: re.sub(r"^[^/]+/(?=data/)", "", name) for name in names}
    sections = [match.groups() for path in inside.values() if (match := _COUNTS.fullmatch(path))]
    wanted = "|".join(
        rf"data/ST-cnts/{patient}{number}\.tsv(?:\.gz)?"
        rf"|data/ST-spotfiles/{patient}{number}_selection\.tsv"
        rf"|data/ST-pat/lbl/{patient}{number}_labeled_coordinates\.tsv"
        rf"|data/ST-imgs/{patient}/{patient}{number}/[^/.][^/]*{_IMAGE}"
        for patient, number in sections
    )
    return {name: path for name, path in inside.items() if wanted and re.fullmatch(wanted, path, re.I)}


_ATLAS = {
    "filtered_count_matrices": re.compile(r"(?:.*/)?([A-Za-z0-9]+_filtered_count_matrix/[^/.][^/]*)"),
    "metadata": re.compile(r"(?:.*/)?([A-Za-z0-9]+_metadata\.csv)"),
    "spatial": re.compile(r"(?:.*/)?([A-Za-z0-9]+_spatial/[^/.][^/]*)"),
}


def choose_atlas(names: Iterable[str]) -> dict[str, str]:
    """Matrices, metadata and spatial folder of every sample, in whatever folder they are packed."""
    return {
        name: f"{folder}/{match.group(1)}"
        for name in names
        for folder, pattern in _ATLAS.items()
        if (match := pattern.fullmatch(name))
    }


_SCC = re.compile(
    r"GSM\d+_\w+_stdata\.tsv(?:\.gz)?"
    r"|GSM\d+_spot_data-selection-[\w-]+\.tsv(?:\.gz)?"
    r"|GSM\d+_\w+_ST_rep\d+\.jpe?g(?:\.gz)?",
    re.ASCII,
)


def choose_scc(names: Iterable[str]) -> dict[str, str]:
    """Counts, spot files and images of the ST sections; the series' four Visium sections are left out.

    An image that the archive holds gzipped is unzipped.
    """
    files = {name: PurePosixPath(name).name for name in names}
    return {
        name: "data/" + re.sub(r"(\.jpe?g)\.gz$", r"\1", file)
        for name, file in files.items()
        if _SCC.fullmatch(file)
    }


# --- The cohorts -----------------------------------------------------------------------------------
_ZENODO = "https://zenodo.org/records/4739739/files"

HER2ST = Cohort(
    name="her2st",
    what="HER2-positive breast cancer, Spatial Transcriptomics with H&E images, 8 patients",
    sections="36, 8 annotated",
    # 36 images of about 4 MB each (as three of them have), and the rest is small.
    size="about 0.2 GB",
    licence="the repository states none; the authors' encrypted copy (Zenodo 4751624) is CC BY 4.0",
    citation="Andersson et al., Nature Communications 12, 6012 (2021), doi:10.1038/s41467-021-26271-2",
    # Layout: the repository's README and public code that reads a clone of it; label of J1: its issue 3.
    page="https://github.com/almaan/her2st",
    format="her2st",
    archives=(
        Archive(
            "her2st-master.zip",
            "https://github.com/almaan/her2st/archive/refs/heads/master.zip",
            "size not published: the whole repository",
        ),
    ),
    choose=choose_her2st,
    tree="https://api.github.com/repos/almaan/her2st/git/trees/master?recursive=1",
    raw="https://raw.githubusercontent.com/almaan/her2st/master/",
)

ATLAS = Cohort(
    name="breast-atlas",
    what="Breast cancer atlas: Visium with pathologist's classes, TNBC and ER+",
    sections="6",
    size="about 0.2 GB",
    licence="CC BY 4.0",
    citation="Wu et al., Nature Genetics 53, 1334-1347 (2021), doi:10.1038/s41588-021-00911-1",
    # Names: the issue 3 of Swarbricklab-code/BrCa_cell_atlas and public code that reads the unpacked record;
    # sizes: as downloaders of the record note them.
    page="https://zenodo.org/records/4739739",
    format="breast_atlas",
    archives=(
        Archive(
            "filtered_count_matrices.tar.gz",
            f"{_ZENODO}/filtered_count_matrices.tar.gz?download=1",
            "about 160 MB",
        ),
        Archive("metadata.tar.gz", f"{_ZENODO}/metadata.tar.gz?download=1", "about 1 MB"),
        Archive("spatial.tar.gz", f"{_ZENODO}/spatial.tar.gz?download=1", "about 50 MB"),
    ),
    choose=choose_atlas,
    zenodo="https://zenodo.org/api/records/4739739",
    limit=5 * GB,
)

SCC = Cohort(
    name="scc",
    what="Cutaneous squamous cell carcinoma, Spatial Transcriptomics with H&E images, 4 patients",
    sections="12",
    size="not published; GEO tells at the download",
    licence="none stated; public under NCBI's terms of use",
    citation="Ji et al., Cell 182, 497-514 (2020), doi:10.1016/j.cell.2020.05.039",
    # GSE144240 is the series of all the study's data; GSE144239, one of its parts, holds the spatial ones
    # (GSM4284316 to GSM4284327, and four Visium sections). Names: public code that reads the unpacked tar.
    page="https://www.ncbi.nlm.nih.gov/geo/query/acc.cgi?acc=GSE144239",
    format="legacy_st",
    archives=(
        Archive(
            "GSE144239_RAW.tar",
            "https://ftp.ncbi.nlm.nih.gov/geo/series/GSE144nnn/GSE144239/suppl/GSE144239_RAW.tar",
            "size not published",
        ),
    ),
    choose=choose_scc,
)

COHORTS = {cohort.name: cohort for cohort in (HER2ST, ATLAS, SCC)}


def cohort(name: str) -> Cohort:
    """A known cohort; raises SencaError naming all of them."""
    if name not in COHORTS:
        raise SencaError(f"cohort {name!r} is unknown; expected one of {', '.join(COHORTS)}")
    return COHORTS[name]
