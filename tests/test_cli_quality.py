from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
from toys import toy_content, toy_section
from typer.testing import CliRunner

from senca_ray import keys
from senca_ray.cli_quality import find_shards, quality
from senca_ray.data.shards import write_shard
from senca_ray.errors import ProblemsError, SencaError
from senca_ray.files import write_json

app = typer.Typer(rich_markup_mode=None)
app.command()(quality)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def shard(store: Path, sample: str, *, measured: bool = True, seed: int = 0, **changes: Any) -> Path:
    """A shard of 48 spots without image."""
    section = toy_section(store.parent / "raw", seed=seed, genes=200)
    content = toy_content(section)
    meta = content.meta | {"sample": sample, "fingerprint": f"{seed}" * 64} | changes
    if not measured:
        del meta["quality"]
    return write_shard(store, dataclasses.replace(content, meta=meta))


def output(*options: str) -> str:
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_store_is_shown_with_its_warnings_and_files(here: Path) -> None:
    store = here / "shards"
    for seed, sample in enumerate(("A1", "B1")):
        shard(store, sample, seed=seed)
    said = output(str(store))
    assert "warning: 2 sections: spots under 100: A1 48, B1 48" in said
    assert "Simulated sections" in said and "shared with" not in said
    assert sorted(p.name for p in (here / "quality").iterdir()) == [
        "quality.csv",
        "quality.pdf",
        "quality.png",
    ]
    rows = pd.read_csv(here / "quality" / "quality.csv")
    assert rows["sample"].tolist() == ["A1", "B1"] and rows["spots"].tolist() == [48, 48]
    assert sorted(p.name for p in store.iterdir()) == ["A1-0000000000000000", "B1-1111111111111111"]


def test_limits_come_from_the_config_and_prepare_nothing(here: Path) -> None:
    folder = shard(here / "shards", "A1")
    before = (folder / keys.SHARD_FILE).read_bytes()
    (here / "c.yaml").write_text("quality: {min_spots: 10, min_median_counts: 1, min_median_genes: 1}\n")
    said = output(str(folder), "--config", "c.yaml", "--out", "q")
    assert "0 warnings in 1 section" in said and (here / "q" / "quality.png").is_file()
    assert (folder / keys.SHARD_FILE).read_bytes() == before


def test_the_shards_of_a_study_are_shown_one_of_them_twice(here: Path) -> None:
    from senca_ray.analysis.description import SCHEMA_VERSION

    shards = {name: str(shard(here / "elsewhere", name, patient=name)) for name in ("A1", "A2")}
    shards["B1"] = str(shard(here / "elsewhere", "B1", measured=False))
    (here / "study").mkdir()
    write_json(here / "study" / keys.STUDY_FILE, {"schema": SCHEMA_VERSION, "shards": shards})
    said = output(str(here / "study"))
    assert "A1: spots shared with another 1.00" in said and "scores leak" in said
    assert "not measured: B1: prepared" in said


def test_of_a_section_prepared_again_the_newest_counts(here: Path) -> None:
    old, new = (shard(here / "shards", "A1", seed=seed) for seed in (1, 0))
    os.utime(old / keys.SHARD_FILE, (1, 1))
    found, notes = find_shards(here / "shards")
    assert found == {"A1": str(new)} and notes == [f"{old.name} left out: A1 was prepared again"]


def test_a_shard_that_cannot_be_read_is_left_out_with_a_note(here: Path) -> None:
    good, bad = shard(here / "shards", "A1"), shard(here / "shards", "B1")
    (bad / keys.SHARD_FILE).write_text("{")
    found, [note] = find_shards(here / "shards")
    assert found == {"A1": str(good)} and bad.name in note
    (good / keys.SHARD_FILE).write_text('{"schema": -1}')
    with pytest.raises(ProblemsError):
        find_shards(here / "shards")


def test_a_folder_without_shards_is_refused(here: Path) -> None:
    for path in (here, here / "nothing"):
        with pytest.raises(SencaError, match="neither shards nor a study"):
            find_shards(path)
