"""Embeddings are kept beside a study's rows and read back as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from senca_ray import keys
from senca_ray.analysis.embeddings import keep_embeddings, read_embedding, write_embedding
from senca_ray.errors import SencaError

VALUES = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


def row(setting: str = "neighbors=4", seed: int = 2) -> dict[str, object]:
    return {keys.METHOD: "senca", keys.SETTING: setting, keys.SAMPLE: "A1", keys.SEED: seed}


def test_an_embedding_is_read_back_as_it_was(tmp_path: Path) -> None:
    write_embedding(tmp_path, row(), VALUES)
    found = read_embedding(tmp_path, "senca", "neighbors=4", "A1")
    assert found is not None and found.seed == 2
    np.testing.assert_array_equal(found.values, VALUES)
    assert read_embedding(tmp_path, "senca", "neighbors=8", "A1") is None


def test_a_later_one_of_the_same_trial_takes_its_place(tmp_path: Path) -> None:
    write_embedding(tmp_path, row(), VALUES)
    write_embedding(tmp_path, row(seed=0), VALUES[:, :2])
    found = read_embedding(tmp_path, "senca", "neighbors=4", "A1")
    assert found is not None and found.seed == 0 and found.values.shape == (7, 2)
    assert len(list((tmp_path / keys.EMBEDDING_FOLDER).iterdir())) == 1


def test_only_those_of_settings_that_are_shown_stay(tmp_path: Path) -> None:
    for setting in ("a", "b", "c"):
        write_embedding(tmp_path, row(setting), VALUES)
    keep_embeddings(tmp_path, {"a", "c", None})
    kept = {s for s in "abc" if read_embedding(tmp_path, "senca", s, "A1") is not None}
    assert kept == {"a", "c"}
    keep_embeddings(tmp_path / "none", {"a"})  # a study without embeddings


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    write_embedding(tmp_path, row(), VALUES)
    (path,) = (tmp_path / keys.EMBEDDING_FOLDER).iterdir()
    path.write_bytes(b"no table")
    keep_embeddings(tmp_path, {"another"})
    with pytest.raises(SencaError, match=f"{path.name}: not an embedding"):
        read_embedding(tmp_path, "senca", "neighbors=4", "A1")
