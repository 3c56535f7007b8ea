"""Studies published to a server: what arrives, and what happens where it does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import wandb_stub
from study_folder import COHORT, make_study
from typer.testing import CliRunner
from wandb_stub import ENTITY, KEY, StubRun, StubServer, user

from senca_ray import keys
from senca_ray.analysis.results import read_results
from senca_ray.cli_wandb import wandb_app
from senca_ray.errors import SencaError
from senca_ray.report import wandb_publisher
from senca_ray.report.wandb_publisher import PublishOutcome, publish, sync
from senca_ray.report.wandb_send import Patience


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated study of one section and two settings; to be read only."""
    folder = tmp_path_factory.mktemp("small")
    variants = {f"neighbors={n}": {"neighbors": n} for n in (4, 8)}
    return make_study(folder, COHORT[:1], variants=variants, seeds=2, side=8, simulated=True)


@dataclass(frozen=True)
class Sent:
    """A study, the server that took it, and what was told of it."""

    study: Path
    server: StubServer
    outcome: PublishOutcome
    again: PublishOutcome
    """Of publishing it once more."""
    taken: int
    """Requests of the first time."""

    def runs(self, job_type: str) -> list[StubRun]:
        return [run for run in self.server.runs.values() if run.told["jobType"] == job_type]


@pytest.fixture(scope="module")
def sent(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:
    """The study, published twice to a server that works."""
    folder = tmp_path_factory.mktemp("sent")
    study = Path(shutil.copytree(small, folder / "study"))
    with (
        wandb_stub.running() as server,
        user(folder / "home", BASE_URL=server.url, API_KEY=KEY),
    ):
        outcome = publish(study)
        taken = len(server.bodies)
        yield Sent(study, server, outcome, publish(study), taken)


def test_every_run_arrives_whole(sent: Sent) -> None:
    trials = read_results(sent.study)[[keys.METHOD, keys.SETTING, keys.SAMPLE]].drop_duplicates()
    assert sent.outcome.mode == "online" and sent.outcome.runs == sent.outcome.sent == len(trials) + 1
    assert len(sent.server.runs) == len(trials) + 1
    assert all(run.complete for run in sent.server.runs.values())
    assert len({run.told["groupName"] for run in sent.server.runs.values()}) == 1
    own = sent.runs("study")[0]
    assert sent.outcome.url == f"{sent.server.url}/{ENTITY}/senca-ray/runs/{own.told['name']}"


def test_a_trial_arrives_with_config_scores_losses_map_and_embedding(sent: Sent) -> None:
    run = next(r for r in sent.runs("model") if r.config["setting"] == "neighbors=8")
    seeds = read_results(sent.study).query("method == 'senca' and setting == 'neighbors=8' and seed >= 0")
    assert run.summary["ari_mean"] == pytest.approx(seeds[keys.ARI].mean())
    assert run.config["sample"] == "A1" and run.config["simulated"] is True
    assert "simulated" in run.told["tags"] and run.told["notes"].startswith("Simulated cohort")
    assert [item["epoch"] for item in run.history if "loss" in item] == list(range(1, 11))
    assert any(name.endswith(".jpg") for name in run.files)
    assert f"run-{run.told['name']}-embedding" in sent.server.artifacts


def test_the_results_arrive_as_an_artifact(sent: Sent) -> None:
    files = sent.server.artifacts["made-up"]
    assert files[keys.RESULTS_FILE] == (sent.study / keys.RESULTS_FILE).read_bytes()


def test_the_report_arrives_and_shows_the_study_s_runs(sent: Sent) -> None:
    (stored,) = sent.server.reports.values()
    spec = json.loads(stored["spec"])
    assert stored["entityName"] == ENTITY and stored["projectName"] == "senca-ray"
    assert (
        sent.outcome.report is not None
        and f"{sent.server.url}/{ENTITY}/senca-ray/reports/" in sent.outcome.report
    )
    assert sent.runs("study")[0].told["groupName"] in json.dumps(spec)
    assert "Simulated cohort" in stored["spec"]


def test_once_more_nothing_is_sent(sent: Sent) -> None:
    assert len(sent.server.bodies) == sent.taken
    assert (sent.again.mode, sent.again.url, sent.again.report) == (
        "online",
        sent.outcome.url,
        sent.outcome.report,
    )


def test_neither_key_nor_machine_is_sent_or_kept(sent: Sent) -> None:
    assert not any(KEY.encode() in body for body in sent.server.bodies)
    assert not any(KEY.encode() in p.read_bytes() for p in sent.study.rglob("*") if p.is_file())
    assert not any(run.told.get("host") for run in sent.server.runs.values())
    assert not any("wandb-metadata.json" in run.files for run in sent.server.runs.values())


def cores() -> int:
    return sum("wandb-core" in child.name() for child in psutil.Process().children(recursive=True))


def test_a_server_that_hangs_is_left_and_the_rest_sent_later(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Path(shutil.copytree(small, tmp_path / "study"))
    # Longer than a slow machine needs to begin.
    monkeypatch.setattr(wandb_publisher, "AT_THE_END", Patience(5.0, 60.0))
    with wandb_stub.running(takes=2) as server, user(tmp_path / "home", BASE_URL=server.url, API_KEY=KEY):
        outcome = publish(study)
        assert outcome.mode == "offline" and outcome.sent == 2 < outcome.runs
        assert outcome.reason == "W&B took no run within 5 seconds" and outcome.report is None
        assert cores() == 0, "nothing of W&B is left behind"
        whole = [name for name, run in server.runs.items() if run.complete]
        assert len(whole) == 2 and "2 of" in str(outcome)

    # Nor does it harm that the report takes too long.
    monkeypatch.setattr("senca_ray.report.wandb_report._SECONDS", 0.1)
    with wandb_stub.running() as server, user(tmp_path / "home", BASE_URL=server.url, API_KEY=KEY):
        ended = CliRunner().invoke(wandb_app, ["sync", str(study)])
        assert ended.exit_code == 0 and ended.output.startswith(f"{outcome.runs} runs: ")
        assert "stored no report (no answer within" in ended.output and not server.reports
        assert len(server.runs) == outcome.runs - 2 and not set(whole) & set(server.runs)


def test_what_the_server_says_is_the_reason(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Path(shutil.copytree(small, tmp_path / "study"))
    # The key is known, but these runs are refused.
    monkeypatch.setattr(wandb_publisher.session, "check_account", lambda: None)
    told: list[str] = []
    with (
        wandb_stub.running(answers=403) as server,
        user(tmp_path / "home", BASE_URL=server.url, API_KEY=KEY),
    ):
        outcome = sync(study, told.append)
    assert outcome.mode == "offline" and outcome.sent == 0 and outcome.reason == "W&B said: no"
    assert f"sent 0 of {outcome.runs} runs" in told


def test_the_command_needs_a_finished_study(tmp_path: Path) -> None:
    ended = CliRunner().invoke(wandb_app, ["sync", str(tmp_path)])
    assert isinstance(ended.exception, SencaError) and keys.STUDY_FILE in str(ended.exception)
