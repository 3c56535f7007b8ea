"""Text files of every format: what no single format's tests look at."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from senca_ray.data.readers import tables
from senca_ray.errors import SencaError


def test_a_gzip_bomb_is_refused_before_it_fills_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_SMALL", 10_000)
    path = tmp_path / "counts.tsv.gz"
    path.write_bytes(gzip.compress(b"a\tb\n" * 1_000_000))
    with pytest.raises(SencaError, match="unpacks to more than 200 times"):
        tables.read_lines(path)
    path.write_bytes(gzip.compress(b"a\tb\n" * 100))
    assert len(tables.read_lines(path)) == 100
