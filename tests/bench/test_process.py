"""What a fresh process gives back; the functions below are called in one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from senca_ray.bench.process import fresh, peak_memory_mb
from senca_ray.errors import SencaError


def echo(**arguments: object) -> dict[str, object]:
    return {"pid": os.getpid(), "address": os.environ.get("RAY_ADDRESS"), **arguments}


def fail() -> None:
    raise ValueError("no such luck")


def leave() -> None:
    os._exit(0)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def test_arguments_go_in_and_results_come_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    result = fresh(echo, number=1.5, names=["a", "ü"])
    assert (result["number"], result["names"]) == (1.5, ["a", "ü"])
    assert result["pid"] != os.getpid()
    assert result["address"] is None


def test_a_failure_is_told_with_its_reason() -> None:
    with pytest.raises(SencaError, match=r"(?s)exit code 1.*no such luck"):
        fresh(fail)


def test_a_process_without_a_result_is_a_failure() -> None:
    with pytest.raises(SencaError, match="no result"):
        fresh(leave)


def test_a_new_process_does_not_inherit_the_peak_of_its_parent() -> None:
    ballast = bytearray(300 * 2**20)
    ours = peak_memory_mb()
    assert ours > 300 and len(ballast)
    assert fresh(peak_memory_mb) < ours - 200


def test_a_process_that_is_gone_has_no_peak() -> None:
    assert peak_memory_mb(2**22 + 1) == 0.0
