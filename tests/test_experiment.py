from pathlib import Path

import pytest
import ray

from senca_ray import experiment
from senca_ray.analysis.aggregator import aggregator
from senca_ray.config import Setting
from senca_ray.errors import Interrupted, SencaError
from senca_ray.experiment import _plan, _resumable, resume
from senca_ray.methods.protocol import Protocol
from senca_ray.study.search import Search
from senca_ray.study.trial import Trial, failed_rows
from senca_ray.watch import NodeLost

pytestmark = pytest.mark.usefixtures("local_ray")


def test_what_an_actor_cannot_do_is_told_in_its_own_words() -> None:
    @ray.remote
    def append() -> None:
        raise SencaError("no space left")

    with pytest.raises(SencaError) as caught, _resumable(Path("my-study")):
        ray.get(append.remote())
    assert str(caught.value).startswith(
        "no space left; what is done is kept: go on with `senca resume my-study`"
    )


def test_a_stop_and_a_lost_node_say_how_to_go_on() -> None:
    with pytest.raises(Interrupted, match="senca resume my-study"), _resumable(Path("my-study")):
        raise KeyboardInterrupt
    with (
        pytest.raises(SencaError, match=r"node is gone.*senca resume my-study"),
        _resumable(Path("my-study")),
    ):
        raise NodeLost("node is gone")
    with pytest.raises(SencaError, match=r"cluster was lost.*my-study"), _resumable(Path("my-study")):
        raise ConnectionError


class OneTrial:
    """As much of a study as a plan asks for."""

    trial = Trial("s", "depth", "fixed", Setting(), "A1", "nowhere", (0, 1), Protocol())

    def trials(self, shards: dict[str, str]) -> list[Trial]:
        return [self.trial]


def test_failed_trials_run_again_only_when_asked(tmp_path: Path) -> None:
    sink = aggregator(tmp_path)
    ray.get(sink.append.remote(failed_rows(OneTrial.trial, "not installed: `get it`")))
    left = [_plan(OneTrial(), {}, tmp_path, sink, retry_failed=retry).left for retry in (False, True)]  # type: ignore[arg-type]
    ray.kill(sink)
    assert left == [0, 1]


def test_a_search_cannot_try_its_failed_trials_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senca_ray.analysis.description.read_description", lambda out: {"shards": {}})
    monkeypatch.setattr(experiment, "_described", lambda description: object.__new__(Search))
    with pytest.raises(SencaError, match="start it anew with another --out"):
        resume(str(tmp_path), retry_failed=True)
