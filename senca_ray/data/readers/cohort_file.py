"""Cohort files: a list of sections that mixes formats and says what the formats themselves cannot.

samples:                                  # or a CSV with these columns, a row a section
  - sample: P1-a                          # must; the section's name from here on
    path: visium/P1/outs                  # must; relative to this file
    section: A1                           # which one, where the path holds several
    format: visium                        # left out: detected
    patient: P1
    image: scans/P1.ome.tif               # full-resolution image in place of the one found
    labels: labels/P1.csv                 # label file in place of the one found
    label_column: annotation
    label_source: annotated               # or transferred, simulated
    role: test                            # left out: tuning
"""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from senca_ray import keys
from senca_ray.config import from_mapping, read_yaml
from senca_ray.data.section import SAMPLE_ID, RawSection, SectionFiles
from senca_ray.errors import ConfigError, Problem, ProblemsError, SencaError

NAMES = ("cohort.yaml", "cohort.yml", "cohort.csv")
_MOST_BYTES = 50_000_000
"""A cohort file is read whole; a larger one is some other table."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One section of a cohort file; paths are relative to the file."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    sample: str
    """The section's sample id."""
    path: str
    """Folder or file that holds it."""
    section: str | None = None
    """Its sample id there, where the path holds several sections."""
    format: str | None = None
    """Left out: detected."""
    patient: str | None = None
    """Left out: as the format tells."""
    image: str | None = None
    """Image in place of the one found."""
    labels: str | None = None
    """Label file in place of the one found."""
    label_column: str | None = None
    """Column of the labels; left out: the format's own."""
    label_source: Literal["annotated", "transferred", "simulated"] | None = None
    """Left out: as the format tells, else annotated."""
    role: Literal["tuning", "test"] = "tuning"
    """Test sections take no part in any choice of settings."""

    def __post_init__(self) -> None:
        names = {"sample": self.sample, "patient": self.patient}
        problems = [
            Problem(
                "-",
                field,
                f"{name!r:.80} found; expected letters, digits, '-', '_', '.', not starting with a dot",
            )
            for field, name in names.items()
            if name is not None and not SAMPLE_ID.fullmatch(name)
        ]
        if not self.path.strip():
            problems.append(Problem("-", "path", "empty; expected a folder or file"))
        if problems:
            raise ConfigError(problems, "the entry")


class CohortFileReader:
    """Finds sections by a cohort file; each is read by the reader of its own format."""

    name = "cohort"
    expects = f"a cohort file, or a folder with {', '.join(NAMES)} that lists 'samples'"

    def recognises(self, root: Path) -> bool:
        """Whether `root` is a cohort file, or a folder with one."""
        return _cohort_file(root) is not None

    def find(self, root: Path) -> list[SectionFiles]:
        """The sections that the file lists, sorted by sample id; raises ProblemsError with all problems."""
        path = _cohort_file(root)
        if path is None:
            raise SencaError(f"{root}: no cohort file; expected {self.expects}")
        entries = _read(path)
        problems = _repeated(entries, path)
        found: dict[tuple[str, str | None], list[SectionFiles]] = {}
        sections = []
        for entry in entries:
            try:
                sections.append(self._section(entry, path, found))
            except ProblemsError as error:
                problems += [dataclasses.replace(p, sample=entry.sample) for p in error.problems]
            except SencaError as error:
                problems.append(Problem(entry.sample, path.name, str(error)))
        problems += _split_patients(sections, path)
        if problems:
            raise ProblemsError(problems, f"{path} with {len(entries)} sections")
        return sorted(sections, key=lambda s: s.sample)

    def read(self, files: SectionFiles, max_image_pixels: int) -> RawSection:
        """Never called: a section that this reader finds names the format that reads it."""
        raise SencaError(f"{files.sample}: a cohort file lists sections of other formats")

    def _section(
        self, entry: Entry, path: Path, found: dict[tuple[str, str | None], list[SectionFiles]]
    ) -> SectionFiles:
        target = path.parent / entry.path
        known = (entry.path, entry.format)
        if known not in found:
            if not target.exists():
                raise SencaError(f"path {entry.path}: no such folder or file; it is relative to {path.name}")
            from senca_ray.data import readers  # the registry, which this reader is itself part of

            reader = readers.reader(entry.format) if entry.format else readers.detect(target)
            if reader.name == self.name:
                raise SencaError(f"path {entry.path}: a cohort file again; expected the sections themselves")
            found[known] = reader.find(target)
        section = _chosen(entry, found[known])
        changes: dict[str, Any] = {"sample": entry.sample, "role": entry.role}
        if entry.patient is not None:
            changes["patient"] = entry.patient
        if entry.label_column is not None:
            changes["label_column"] = entry.label_column
        for field in ("image", "labels"):
            if (given := getattr(entry, field)) is not None:
                if not (path.parent / given).is_file():
                    raise SencaError(f"{field} {given}: no such file; it is relative to {path.name}")
                changes[field] = path.parent / given
        if entry.label_source is not None:
            changes["label_source"] = entry.label_source
            changes["simulated"] = section.simulated or entry.label_source == keys.SIMULATED
        elif section.label_source == keys.UNLABELLED and (entry.labels or entry.label_column):
            changes["label_source"] = keys.ANNOTATED
        return dataclasses.replace(section, **changes)


def _cohort_file(root: Path) -> Path | None:
    if root.is_file():
        return root if root.suffix.lower() in (".yaml", ".yml", ".csv") else None
    for path in (root / name for name in NAMES):
        # A HER2ST cohort may have a cohort.yaml of its own, which lists no samples.
        if path.is_file() and (path.suffix == ".csv" or "samples" in _mapping(path)):
            return path
    return None


def _mapping(path: Path) -> dict[str, Any]:
    try:
        return read_yaml(path)
    except SencaError:
        return {}


def _read(path: Path) -> list[Entry]:
    """The file's entries; raises SencaError for another kind of file, ProblemsError for wrong entries."""
    if path.stat().st_size > _MOST_BYTES:
        raise SencaError(f"{path}: {path.stat().st_size:,} bytes; expected a cohort file of a row a section")
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _yaml_rows(path)
    entries, problems = [], []
    for number, row in enumerate(rows, 1):
        try:
            entries.append(from_mapping(Entry, row))
        except ProblemsError as error:
            sample = str(row.get("sample", "-"))
            problems += [
                Problem(sample, f"{path.name}, section {number}, {p.place}", p.message)
                for p in error.problems
            ]
    if not rows:
        problems.append(Problem("-", path.name, "lists no sections; expected one or more"))
    if problems:
        raise ProblemsError(problems, f"{path} with {len(rows)} sections")
    return entries


def _yaml_rows(path: Path) -> list[dict[str, Any]]:
    content = read_yaml(path)
    rows = content.get("samples")
    if (
        list(content) != ["samples"]
        or not isinstance(rows, list)
        or not all(isinstance(r, dict) for r in rows)
    ):
        raise SencaError(
            f"{path}: {', '.join(map(str, content)) or 'nothing'} found; expected the one entry 'samples', "
            "a list of sections, each with sample, path and what else is known; see docs/formats.md"
        )
    return [{str(k): _text(v) for k, v in row.items()} for row in rows]


def _text(value: Any) -> Any:
    """YAML reads a sample id such as 151673 as a number."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SencaError(f"{path}: cannot be read as a UTF-8 CSV table ({error}); save it as one") from None
    if any(None in row or None in row.values() for row in rows):
        raise SencaError(
            f"{path}: rows with another number of cells than the header; expected a cell a column, separated "
            "by commas"
        )
    # An empty cell says nothing.
    return [{k.strip(): v.strip() for k, v in row.items() if v.strip()} for row in rows]


def _repeated(entries: list[Entry], path: Path) -> list[Problem]:
    seen: set[str] = set()
    problems = []
    for entry in entries:
        if entry.sample.casefold() in seen:
            message = "the sample id is there twice; expected ids that differ in more than case; rename one"
            problems.append(Problem(entry.sample, path.name, message))
        seen.add(entry.sample.casefold())
    return problems


def _chosen(entry: Entry, sections: list[SectionFiles]) -> SectionFiles:
    """The one section that an entry means of those at its path; raises SencaError."""
    name = entry.section or (sections[0].sample if len(sections) == 1 else entry.sample)
    for section in sections:
        if section.sample == name:
            return section
    inside = ", ".join(s.sample for s in sections[:10])
    raise SencaError(
        f"path {entry.path} holds {len(sections)} sections ({inside}), none called {name!r}; name "
        "one of them as 'section'"
    )


def _split_patients(sections: list[SectionFiles], path: Path) -> list[Problem]:
    """Patients with tuning and with test sections: what is chosen on the one is not tested by the other."""
    problems = []
    for patient in sorted({s.patient for s in sections if s.role == keys.TEST}):
        tuning = sorted(s.sample for s in sections if s.patient == patient and s.role == keys.TUNING)
        if tuning:
            message = (
                f"patient {patient} has test sections, and {', '.join(tuning)} would tune; expected one role "
                "for all sections of a patient; give these the role test"
            )
            problems.append(Problem(tuning[0], path.name, message))
    return problems
