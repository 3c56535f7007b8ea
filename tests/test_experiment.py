from pathlib import Path

import pytest
import ray

from senca_ray.errors import Interrupted, SencaError
from senca_ray.experiment import _resumable
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
