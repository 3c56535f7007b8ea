"""Whatever W&B, the key or the disk does, a study ends well and says what became of its runs."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb_stub
from study_folder import COHORT, make_study
from wandb_stub import KEY, user

from senca_ray import lock
from senca_ray.errors import SencaError
from senca_ray.report import wandb_publisher
from senca_ray.report.wandb_publisher import PublishOutcome, publish, sync


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of one section without image and one setting; to be read only."""
    setting: dict[str, dict[str, object]] = {"neighbors=4": {"neighbors": 4}}
    folder = tmp_path_factory.mktemp("small")
    return make_study(folder, (COHORT[2],), variants=setting, seeds=1, side=6)


@pytest.fixture
def study(small: Path, tmp_path: Path) -> Iterator[Path]:
    """The same to be published, by a user without an account."""
    with user(tmp_path / "home"):
        yield Path(shutil.copytree(small, tmp_path / "a study"))


def n_runs(study: Path) -> int:
    return len(list((study / "wandb").glob("offline-run-*")))


def written(study: Path) -> list[bytes]:
    return [path.read_bytes() for path in study.rglob("*") if path.is_file()]


def test_an_unreachable_server_costs_seconds_and_nothing_else(
    study: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
    outcome = publish(study)
    assert outcome.mode == "offline" and outcome.reason is not None
    assert "cannot be reached (no answer from http://127.0.0.1:" in outcome.reason
    assert outcome.runs == n_runs(study) > 1 and outcome.sent == 0
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""
    assert KEY not in str(outcome) and not any(KEY.encode() in content for content in written(study))


@pytest.mark.parametrize("status", [401, 403])
def test_an_expired_key_is_told_and_everything_is_kept(
    study: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with wandb_stub.running(answers=status) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        outcome = publish(study)
        assert outcome.mode == "offline" and outcome.reason is not None
        assert "does not accept the key" in outcome.reason and server.url in outcome.reason
        with pytest.raises(SencaError, match="does not accept the key"):
            sync(study, lambda _: None)
    assert n_runs(study) == outcome.runs and "senca wandb sync" in str(outcome)


def test_a_malformed_key_is_told(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "short")
    outcome = publish(study)
    assert outcome.mode == "offline" and outcome.reason is not None and "WANDB_API_KEY" in outcome.reason


def test_without_a_key_nothing_is_sent_and_the_reason_is_told_to_who_asks(study: Path) -> None:
    assert publish(study).mode == "offline"
    with pytest.raises(SencaError, match="no key for W&B is known"):
        sync(study, lambda _: None)


def test_online_wanted_without_a_key_is_told(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    outcome = publish(study)
    assert outcome.mode == "offline" and outcome.reason is not None and "no key" in outcome.reason


def test_the_environment_s_mode_wins(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert publish(study).mode == "disabled" and not (study / "wandb").exists()
    monkeypatch.setenv("WANDB_MODE", "offline")
    outcome = publish(study)
    assert outcome.mode == "offline" and outcome.reason is None


def test_without_wandb_the_study_is_done_all_the_same(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    outcome = publish(study)
    assert outcome.mode == "failed" and str(outcome).startswith("not published: ")


def test_no_place_for_the_runs_is_told(study: Path) -> None:
    (study / "wandb").write_text("in the way")
    outcome = publish(study)
    assert outcome.mode == "failed" and outcome.reason is not None and "exists" in outcome.reason
    with pytest.raises(SencaError, match="cannot be written"):
        sync(study, lambda _: None)


def test_a_run_that_wandb_puts_elsewhere_is_none(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # Of a folder that may not be written; the user of a test may write anywhere.
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(study) and allowed(path, mode))
    outcome = publish(study)
    assert outcome.mode == "failed" and outcome.reason is not None
    assert outcome.reason.endswith("cannot be written; free space or allow writing there")


def test_a_full_disk_keeps_what_was_written(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, real = [], wandb_publisher._made

    def until_full(*given: object) -> str:
        if len(made) == 2:
            raise OSError(28, "No space left on device")
        made.append(real(*given))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(wandb_publisher, "_made", until_full)
    outcome = publish(study)
    assert outcome.mode == "offline" and outcome.runs == 2
    assert outcome.reason is not None and "No space left" in outcome.reason


def test_ctrl_c_loses_nothing_and_the_next_time_goes_on(study: Path) -> None:
    def stop_at_the_third(text: str) -> None:
        if text.startswith("writing run 3"):
            raise KeyboardInterrupt

    outcome = publish(study, stop_at_the_third)
    assert outcome.mode == "offline" and outcome.runs == 2 and outcome.reason == "stopped"
    told: list[str] = []
    whole = publish(study, told.append)
    assert told[0] == f"writing run 1 of {whole.runs - 2}" and n_runs(study) == whole.runs


def test_what_a_crash_left_of_a_run_is_replaced(study: Path) -> None:
    whole = publish(study)
    torn = sorted((study / "wandb").glob("offline-run-*"))[0]
    torn.rename(torn.with_name(f"offline-run-20200101_000000-{torn.name.split('-')[-1]}"))
    assert publish(study).runs == whole.runs == n_runs(study)


def test_a_damaged_list_of_runs_is_told(study: Path) -> None:
    publish(study)
    (study / "wandb" / "senca-runs.json").write_text("{")
    outcome = publish(study)
    assert outcome.mode == "failed" and outcome.reason is not None and "remove the folder" in outcome.reason


def test_two_do_not_publish_a_study_at_once(study: Path) -> None:
    (study / "wandb").mkdir()
    with lock.held(study / "wandb"):
        outcome = publish(study)
    assert outcome.mode == "failed" and outcome.reason is not None and "is being run by" in outcome.reason


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (PublishOutcome("online", Path("s"), 5, 5, "http://x/runs/1"), "5 runs: http://x/runs/1"),
        (PublishOutcome("online", Path("s"), 5, 5, "u", "r"), "5 runs: u; report: r"),
        (
            PublishOutcome("offline", Path("my s"), 5, 2, reason="too slow"),
            "too slow; 2 of 5 runs are sent, the others are kept in its wandb folder: send them with  "
            "senca wandb sync 'my s'",
        ),
        (PublishOutcome("failed", Path("s"), reason="no disk"), "not published: no disk"),
    ],
)
def test_an_outcome_in_words(outcome: PublishOutcome, words: str) -> None:
    assert str(outcome) == words
