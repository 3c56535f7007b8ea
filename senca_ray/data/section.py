"""What a reader hands to `prepare`: one raw section, whatever format it came in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from scipy.sparse import csr_matrix

from senca_ray import keys

SAMPLE_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
"""What sample ids look like: they become names of files and folders."""
MAIN_ANNOTATOR = "main"
"""Whose labels scores use, where a section has those of several annotators; no other may have this name."""


@dataclass(frozen=True)
class SectionFiles:
    """The files of one section as found on disk, before any of them is read."""

    sample: str
    patient: str
    label_source: str
    """One of keys.LABEL_SOURCES."""
    root: Path
    """Cohort folder; messages name files relative to it."""
    format: str
    """Name of the reader that reads them."""
    counts: Path
    """File or folder with the counts, or with the whole section."""
    spots: Path | None = None
    labels: Path | None = None
    image: Path | None = None
    annotations: tuple[tuple[str, Path], ...] = ()
    """Name and label file of every other annotator, by name."""
    others: Mapping[str, Path] = field(default_factory=dict)
    """Whatever else the format needs, by what it is: scale factors, features, barcodes."""
    label_column: str | None = None
    """Column of the labels, where the cohort file names one."""
    part: str | None = None
    """Which section of a file that holds several."""
    role: str = keys.TUNING
    """keys.TUNING, or keys.TEST for a section that takes no part in any choice of settings."""
    simulated: bool = False
    """Whether a computer made the section, with labels or without."""

    def paths(self) -> Iterator[Path]:
        """Every raw file or folder of the section, in a fixed order; their bytes enter the fingerprint."""
        yield from (p for p in (self.counts, self.spots, self.labels) if p is not None)
        yield from self.image_paths()
        yield from (path for _, path in self.annotations)
        yield from (self.others[name] for name in sorted(self.others))

    def image_paths(self) -> Iterator[Path]:
        """The image, and the folder beside it that holds the pixels of an MRXS slide."""
        if self.image is not None:
            yield self.image
            beside = self.image.with_suffix("")
            if self.image.suffix.lower() == ".mrxs" and beside.is_dir():
                yield beside

    def place(self, path: Path) -> str:
        """`path` as messages show it: relative to the cohort folder."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name


@dataclass(frozen=True)
class RawSection:
    """One section in memory: N spots, G genes.

    Spots are in the order of the counts file. Nothing is normalised or filtered.
    """

    files: SectionFiles
    spots: tuple[str, ...]
    """(N,) unique spot names."""
    genes: tuple[str, ...]
    """(G,) unique gene names."""
    counts: csr_matrix
    """(N, G) int32 raw counts."""
    xy: np.ndarray
    """(N, 2) float64 position in spot distances (array units)."""
    pixel_xy: np.ndarray | None = None
    """(N, 2) float64 position in the pixels of `files.image` (x to the right, y down); None without one."""
    labels: tuple[str, ...] | None = None
    """(N,) the label of each spot, keys.UNDETERMINED where it has none; None for an unlabelled section."""
    annotations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """As `labels`, by each other annotator; no score uses them."""
    spot_distance_um: float | None = None
    """Micrometres between adjacent spots: the unit of `xy`; None where the format does not tell."""
    notes: tuple[str, ...] = field(default=())
    """What was left out or repaired, in words, kept in the shard and shown by `senca inspect`."""

    @property
    def modality(self) -> str:
        """keys.RNA_IMAGE with an image, else keys.RNA."""
        return keys.RNA_IMAGE if self.files.image is not None else keys.RNA


class Reader(Protocol):
    """One raw format, registered by its name: in `data/readers/`, or by another package.

    Another package names an object with these methods in its entry points, group `senca_ray.readers`.
    """

    name: str
    expects: str
    """What a folder of this format holds, in words."""

    def recognises(self, root: Path) -> bool:
        """Whether the folder (or file) `root` looks like this format, by names alone; reads no large file."""
        ...

    def find(self, root: Path) -> list[SectionFiles]:
        """List the sections under `root`, sorted by sample id; raises ProblemsError."""
        ...

    def read(self, files: SectionFiles, max_image_pixels: int) -> RawSection:
        """Read and check one section; raises ProblemsError with everything wrong in it.

        The image is only opened (size and decodability); its pixels are read later, by window. Patients,
        labels and roles that a cohort file gives stand in `files` and take precedence.
        """
        ...
