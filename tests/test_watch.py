from __future__ import annotations

import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from senca_ray import watch
from senca_ray.watch import NodeLost, watched

STAND_IN = "ray-stand-in"
PATIENCE = 30
"""Seconds after which what should have been noticed was not."""


@pytest.fixture(autouse=True)
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The node that this process is connected to, as the cluster tells it."""
    node = {"NodeID": "mine", "Alive": True}
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "mine"))
    monkeypatch.setattr(ray, "nodes", lambda: [{"NodeID": "another", "Alive": True}, node])
    monkeypatch.setattr(watch, "_LOOK_EVERY", 0.02)
    monkeypatch.setattr(watch, "_ASK_EVERY", 0.02)
    # Other tests may have a real Ray running as a child of this process.
    monkeypatch.setattr(watch, "_PROCESSES", (STAND_IN,))
    # These tests themselves may run in a script's background, where Ctrl-C is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    started = time.monotonic()
    yield node
    signal.signal(signal.SIGINT, before)
    assert time.monotonic() < started + PATIENCE, "nothing interrupted the wait"


@pytest.fixture
def raylet(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A child with a name that is looked for, which is all that is looked at."""
    program = shutil.copy(str(shutil.which("sleep")), tmp_path / STAND_IN)
    with subprocess.Popen([program, str(PATIENCE)]) as process:
        # Until then it has the name of its parent.
        while Path(f"/proc/{process.pid}/comm").read_text().strip() != STAND_IN:
            time.sleep(0.01)
        yield process
        process.kill()


def test_a_killed_node_of_our_own_ends_the_block(
    raylet: subprocess.Popen[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(NodeLost, match="Ray node on this machine was lost"), watched():
        raylet.kill()
        time.sleep(PATIENCE)
    assert "Ray node on this machine was lost" in caplog.text


def test_so_does_one_that_the_cluster_calls_dead(nodes: dict[str, Any]) -> None:
    with pytest.raises(NodeLost), watched():
        nodes["Alive"] = False
        time.sleep(PATIENCE)


def test_a_block_that_swallows_its_interruption_is_interrupted_again(
    nodes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_AGAIN", 0.2)
    swallowed = 0
    with pytest.raises(NodeLost), watched():
        nodes["Alive"] = False
        while swallowed < 2:
            try:
                time.sleep(PATIENCE)
            except KeyboardInterrupt:
                swallowed += 1
        time.sleep(PATIENCE)
    assert swallowed == 2


def test_what_else_ends_a_block_is_not_taken_for_a_loss(raylet: subprocess.Popen[bytes]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), watched():
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), watched():
        1 / 0  # noqa: B018
    with watched():
        pass
    assert signal.getsignal(signal.SIGINT) == before
    assert not [t for t in threading.enumerate() if t.name == "node watch" and not t.daemon]


def test_a_cluster_that_answers_no_more_is_lost_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    def silent() -> list[dict[str, Any]]:
        asked.set()
        raise ConnectionError

    monkeypatch.setattr(ray, "nodes", silent)
    with watched():
        assert asked.wait(PATIENCE)
        time.sleep(0.1)
    monkeypatch.setattr(watch, "_SILENT", 0.2)
    with pytest.raises(NodeLost), watched():
        time.sleep(PATIENCE)


def test_an_interruption_that_was_ignored_stays_so_and_a_loss_still_ends_the_block(
    nodes: dict[str, Any],
) -> None:
    """As in a script that a shell has put in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(NodeLost), watched():
            signal.raise_signal(signal.SIGINT)
            nodes["Alive"] = False
            time.sleep(PATIENCE)
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_nothing_is_watched(nodes: dict[str, Any]) -> None:
    went_on: list[bool] = []

    def block() -> None:
        with watched():
            nodes["Alive"] = False
            time.sleep(0.1)
            went_on.append(True)

    thread = threading.Thread(target=block)
    thread.start()
    thread.join(PATIENCE)
    assert went_on
