from __future__ import annotations

import dataclasses
import getpass
import json
import socket
from pathlib import Path

import pytest

from senca_ray.bench.figure import Figure
from senca_ray.bench.record import compare, differences, new_record, read_record, write_record
from senca_ray.errors import SencaError


def figure(name: str, *runs: float, better: str = "lower") -> Figure:
    return Figure(name=name, title=name, unit="s", runs=runs, better=better)  # type: ignore[arg-type]


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    record = new_record([figure("a", 1.0, 2.0), figure("b", 3.0)], {"racing": "not there"})
    write_record(tmp_path / "r.json", record)
    assert read_record(tmp_path / "r.json") == record


def test_the_machine_is_described_without_names_and_paths() -> None:
    record = new_record([], {})
    text = json.dumps(record.machine)
    assert record.machine["cpus"] >= 1 and record.machine["memory_gb"] > 0
    assert record.machine["packages"]["ray"]
    assert str(Path.home()) not in text and "/" not in text
    for name in (socket.gethostname(), getpass.getuser()):
        assert name not in json.dumps(list(record.machine.values()))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"schema": "other"}',
        b'{"schema": "senca bench 1"}',
        b'{"schema": "senca bench 1", "figures": [], "machine": {}, "missing": {}, "date": ""}',
        b'{"schema": "senca bench 1", "figures": {"a": 1}, "machine": {}, "missing": {}, "date": ""}',
    ],
)
def test_a_damaged_or_foreign_file_is_named_with_the_fix(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(SencaError, match=r"r\.json: cannot be read .*senca bench --out"):
        read_record(tmp_path / "r.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SencaError, match=r"r\.json: cannot be read"):
        read_record(tmp_path / "r.json")


def test_ratios_are_second_over_first() -> None:
    first = new_record([figure("a", 2.0, 4.0, 3.0), figure("gone", 1.0), figure("zero", 0.0)], {})
    second = new_record([figure("a", 6.0, 6.0, 7.0), figure("zero", 1.0), figure("new", 1.0)], {})
    changes = {change.title: change for change in compare(first, second)}
    assert list(changes) == ["a", "gone", "zero", "new"]
    assert changes["a"].ratio == 2.0
    assert [changes[name].ratio for name in ("gone", "zero", "new")] == [None, None, None]


@pytest.mark.parametrize(
    ("first", "second", "better", "verdict"),
    [
        ((2.0, 3.0), (1.0, 1.5), "lower", "better"),
        ((2.0, 3.0), (4.0, 5.0), "lower", "worse"),
        ((2.0, 3.0), (1.0, 1.5), "higher", "worse"),
        ((2.0, 3.0), (4.0, 5.0), "higher", "better"),
        ((2.0, 3.0), (2.5, 9.0), "lower", "runs overlap"),
        ((2.0, 3.0), (3.0, 9.0), "lower", "runs overlap"),
        ((2.0, 3.0), (2.0, 3.0), "higher", "equal"),
    ],
)
def test_only_runs_all_on_one_side_are_called_better_or_worse(
    first: tuple[float, ...], second: tuple[float, ...], better: str, verdict: str
) -> None:
    a, b = (new_record([figure("a", *runs, better=better)], {}) for runs in (first, second))
    assert [change.verdict for change in compare(a, b)] == [verdict]


def test_other_machines_and_packages_are_told() -> None:
    first = new_record([], {})
    changed = first.machine | {"cpus": 64, "packages": first.machine["packages"] | {"torch": "0"}}
    told = differences(first, dataclasses.replace(first, machine=changed))
    assert len(told) == 2 and told[0].startswith("cpus: ") and told[1].endswith(" and 0")
    assert differences(first, first) == []
