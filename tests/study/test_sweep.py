import pytest

from senca_ray.config import Setting
from senca_ray.errors import ProblemsError
from senca_ray.methods.run import Protocol
from senca_ray.study.sweep import FIXED, Sweep


def sweep(**changes: object) -> Sweep:
    given: dict = {
        "name": "s",
        "title": "t",
        "vary": "neighbors",
        "values": (4, 8),
        "setting": Setting(hvgs=30),
        "seeds": (0, 1, 2),
        "protocol": Protocol(),
    }
    return Sweep(**given | changes)


def test_every_value_on_every_sample_beside_the_controls_that_apply(toy_shard: str) -> None:
    trials = sweep().trials({"T1": toy_shard})
    assert [(t.method, t.label, t.setting.neighbors, len(t.seeds)) for t in trials] == [
        ("senca", "neighbors=4", 4, 3),
        ("senca", "neighbors=8", 8, 3),
        ("untrained", "neighbors=4", 4, 3),
        ("smoothed-pca", FIXED, 4, 3),
        ("coordinates", FIXED, 4, 3),
    ]  # no smoothed-image: the section has no image


def test_what_the_shards_cannot_give_is_refused_at_once(toy_shard: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        sweep(values=(4, 32), setting=Setting(hvgs=500)).trials({"T1": toy_shard})
    assert {p.place for p in caught.value.problems} == {"neighbors", "hvgs"}


@pytest.mark.parametrize(
    ("changes", "place"),
    [({"values": (8, 16)}, "neighbors"), ({"values": (4, 4)}, "values"), ({"seeds": ()}, "seeds")],
)
def test_a_sweep_that_cannot_be_judged_is_refused(changes: dict, place: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        sweep(**changes)
    assert [p.place for p in caught.value.problems] == [place]
