"""Sections with the labels of several annotators, from the files to what figures and statistics read."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from her2st_folder import LABELS, append, label_file, read_text, write_text, write_tiny_cohort
from toys import toy_content, toy_section

from senca_ray import keys
from senca_ray.analysis.annotators import labels_by_annotator
from senca_ray.config import PrepareConfig
from senca_ray.data import readers
from senca_ray.data.section import RawSection, SectionFiles
from senca_ray.data.shards import read_display, read_meta, read_sample, write_shard
from senca_ray.data.stages import Recipe, fingerprint

READER = readers.reader("her2st")
RECIPE = Recipe(PrepareConfig(), None, "unused")


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    return write_tiny_cohort(tmp_path / "cohort")


def files_of(root: Path, sample: str) -> SectionFiles:
    return next(files for files in READER.find(root) if files.sample == sample)


def read_one(root: Path, sample: str) -> RawSection:
    return READER.read(files_of(root, sample), 1_000_000)


def annotate(root: Path, annotator: str) -> Path:
    """A further annotator of A1, who has another word for the first spot's label wherever it occurs."""
    path = label_file(root, "A1").with_name(f"A1_labeled_coordinates.{annotator}.tsv")
    write_text(path, read_text(label_file(root, "A1")).replace(f"\t{LABELS[0]}\n", "\tother\n"))
    return path


OTHERS = tuple("other" if label == LABELS[0] else label for label in LABELS)


def test_further_annotators_are_kept_apart_and_change_no_label(cohort: Path) -> None:
    plain = read_one(cohort, "A1")
    assert plain.annotations == {}
    annotate(cohort, "smith")
    annotate(cohort, "Jones-2")
    section = read_one(cohort, "A1")
    assert section.labels == plain.labels == LABELS
    assert section.annotations == {"Jones-2": OTHERS, "smith": OTHERS}
    assert [name for name, _ in section.files.annotations] == ["Jones-2", "smith"]
    assert read_one(cohort, "B4").annotations == {}


def test_traps_of_label_files_are_those_of_every_annotator(cohort: Path) -> None:
    path = annotate(cohort, "smith")
    write_text(path, read_text(path).replace("\tother\n", "\t\n"))
    append(path, "1379x6121\t\t\t\t\timmune infiltrate")
    section = read_one(cohort, "A1")
    assert section.labels == LABELS
    assert section.annotations["smith"][0] == keys.UNDETERMINED
    assert section.notes == (
        "labels of further annotators: smith",
        "1 label row left out: no coordinates (annotator smith)",
        f"{OTHERS.count('other')} label rows with an empty label: undetermined (annotator smith)",
    )


def test_spots_that_are_left_out_are_left_out_for_every_annotator(cohort: Path) -> None:
    path = annotate(cohort, "smith")
    lines = read_text(path).splitlines()
    write_text(path, "\n".join(lines[:-1]))
    section = read_one(cohort, "A1")
    assert section.annotations["smith"] == (*OTHERS[:-1], keys.UNDETERMINED)
    assert section.notes[1:] == ("1 spot without a label: undetermined (annotator smith)",)


def test_only_sections_with_further_annotators_get_another_fingerprint(cohort: Path) -> None:
    before = {files.sample: fingerprint(files, RECIPE) for files in READER.find(cohort)}
    path = annotate(cohort, "smith")
    after = {files.sample: fingerprint(files, RECIPE) for files in READER.find(cohort)}
    assert {sample for sample in before if before[sample] != after[sample]} == {"A1"}
    shutil.move(path, path.with_name("A1_labeled_coordinates.jones.tsv"))
    assert fingerprint(files_of(cohort, "A1"), RECIPE) not in (before["A1"], after["A1"])


def test_hidden_files_are_no_annotators(cohort: Path) -> None:
    annotate(cohort, "smith").rename(cohort / "ST-pat/lbl/.A1_labeled_coordinates.smith.tsv")
    assert files_of(cohort, "A1").annotations == ()


def test_a_shard_keeps_every_annotator(tmp_path: Path) -> None:
    section = toy_section(tmp_path / "raw")
    spots = len(section.spots)
    given = {"smith": ("a", "b") * (spots // 2), "jones": ("a",) * (spots - 1) + (keys.UNDETERMINED,)}
    content = toy_content(dataclasses.replace(section, annotations=given))
    shard = str(write_shard(tmp_path / "several", content))
    for read in (read_sample(shard, 5), read_display(shard)):
        assert {name: tuple(labels) for name, labels in read.annotations.items()} == given
        assert read.labels is not None
        assert tuple(read.labels) == section.labels
        assert list(labels_by_annotator(read)) == ["main", "jones", "smith"]
    kept = np.arange(spots) % 3 > 0
    part = read_sample(shard, 5).subset(kept)
    np.testing.assert_array_equal(part.annotations["smith"], np.array(given["smith"])[kept])


def test_a_shard_without_further_annotators_is_the_one_it_was(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "s", toy_content(toy_section(tmp_path / "raw")))
    assert "annotators" not in read_meta(str(shard))
    assert read_sample(str(shard), 5).annotations == {}
    assert read_display(str(shard)).annotations == {}
