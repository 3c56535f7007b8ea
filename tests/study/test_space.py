import dataclasses
import json

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from senca_ray.config import Setting
from senca_ray.errors import ProblemsError
from senca_ray.study.space import (
    Choice,
    Range,
    changes,
    describe,
    distributions,
    label,
    largest,
    parse_mapping,
    parse_text,
    space_problems,
)

TEXTS = [
    "mse_weight=1..100:log",
    "neighbors=4,8,16",
    "epochs=5..40:5",
    "dropout=0..0.5:0.1",
    "learning_rate=1e-4,5e-4",
    "graph=true,false",
    "target=standardised,literal",
]
SPACE = {
    "mse_weight": Range(1.0, 100.0, log=True),
    "neighbors": Choice((4, 8, 16)),
    "epochs": Range(5, 40, step=5),
    "dropout": Range(0.0, 0.5, step=0.1),
    "learning_rate": Choice((1e-4, 5e-4)),
    "graph": Choice((True, False)),
    "target": Choice(("standardised", "literal")),
}


def test_a_space_is_read_from_text() -> None:
    space = parse_text(TEXTS)
    assert space == SPACE
    assert [type(v) for v in space["neighbors"].ends()] == [int] * 3  # not 4.0: that is another label
    assert space_problems(space, Setting()) == []


def test_a_space_is_read_from_yaml_and_written_so_again() -> None:
    values = {
        "mse_weight": {"low": 1, "high": 100, "log": True},
        "neighbors": [4, 8, 16],
        "epochs": {"low": 5, "high": 40, "step": 5},
        "dropout": {"low": 0, "high": 0.5, "step": 0.1},
        "learning_rate": ["1e-4", "5e-4"],  # YAML takes them for text
        "graph": [True, False],
        "target": ["standardised", "literal"],
    }
    space = parse_mapping(values)
    assert space == SPACE
    assert parse_mapping(json.loads(json.dumps(describe(space)))) == space


@pytest.mark.parametrize(
    ("text", "place", "word"),
    [
        ("lambda=1..2", "lambda", "unknown"),
        ("neighbors", "space", "expected NAME="),
        ("neighbors=4.5,8", "neighbors", "whole number"),
        ("epochs=1..x", "epochs", "whole number"),
        ("mse_weight=1..100:lin", "mse_weight", "finite number"),
        ("graph=yes,no", "graph", "true or false"),
    ],
)
def test_text_that_cannot_be_read_is_refused(text: str, place: str, word: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        parse_text([text])
    assert [p.place for p in caught.value.problems] == [place]
    assert word in caught.value.problems[0].message


def test_everything_that_cannot_be_read_is_told_at_once() -> None:
    with pytest.raises(ProblemsError) as caught:
        parse_text(["x=1..2", "epochs=a,b", "dropout", "neighbors=4,8", "neighbors=4,16"])
    assert {p.place for p in caught.value.problems} == {"x", "epochs", "space", "neighbors"}


@pytest.mark.parametrize("given", [5, "4,8", None, {"low": 1}, {"low": 1, "high": 2, "max": 3}])
def test_yaml_of_another_shape_is_refused(given: object) -> None:
    with pytest.raises(ProblemsError, match="expected"):
        parse_mapping({"epochs": given})


@pytest.mark.parametrize(
    ("field", "given", "word"),
    [
        ("lambda", Range(1, 2), "unknown"),
        ("epochs", Range(40, 5), "empty"),
        ("epochs", Range(10, 10), "empty"),
        ("dropout", Range(0.0, 0.5, log=True), "above 0"),
        ("dropout", Range(0.0, 1.0), "below 1"),
        ("epochs", Range(0, 40), "1 or more"),
        ("neighbors", Choice((0, 4)), "1 or more"),
        ("target", Choice(("standardised", "other")), "'literal'"),
        ("epochs", Range(5.0, 40.0), "whole number"),
        ("mse_weight", Range(1.0, float("inf")), "finite"),
        ("mse_weight", Choice((40.0, float("nan"))), "finite"),
        ("graph", Range(0, 1), "choice"),
        ("contrast", Choice((0, 1)), "true or false"),
        ("epochs", Range(5, 40, step=10), "divides"),
        ("epochs", Range(10, 40, step=0), "divides"),
        ("epochs", Range(10, 40, log=True, step=5), "one of them"),
        ("neighbors", Choice(()), "two or more"),
        ("neighbors", Choice((4,)), "two or more"),
        ("neighbors", Choice((4, 8, 4)), "two or more"),
        ("neighbors", Choice((8, 16)), "the default 4 is not in it"),
        ("epochs", Range(4, 40, step=4), "the default 10 is not in it"),
        ("mse_weight", Range(50.0, 100.0), "the default 40.0 is not in it"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(field: str, given: Range | Choice, word: str) -> None:
    problems = space_problems({field: given}, Setting())
    assert [p.place for p in problems] == [field]
    assert word in problems[0].message


def test_all_problems_are_told_at_once() -> None:
    space = {
        "lambda": Range(1, 2),
        "epochs": Range(40, 5),
        "dropout": Range(0.0, 1.0),
        "hvgs": Range(300, 900),
    }
    assert [p.place for p in space_problems(space, Setting())] == ["lambda", "epochs", "dropout"]
    assert space_problems({}, Setting())[0].message.startswith("nothing is varied")


def ranges(draw: st.DrawFn) -> Range:
    low = draw(st.integers(1, 50))
    step = draw(st.none() | st.integers(1, 7))
    high = low + (step or 1) * draw(st.integers(1, 20))
    return Range(low, high, log=step is None and draw(st.booleans()), step=step)


@given(st.composite(ranges)(), st.composite(ranges)(), st.integers(0, 2**31))
def test_whatever_is_suggested_lies_in_the_space(epochs: Range, weight: Range, seed: int) -> None:
    """Whole numbers stay whole and others floats: a label follows from how they are written."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = {"epochs": epochs, "mse_weight": weight, "temperature": Choice((1, 2))}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    parameters = study.ask(distributions(space)).params
    assert all(parameters[name] in space[name] for name in space)
    assert [type(parameters[name]) for name in space] == [int, float, float]
    base = Setting(epochs=int(epochs.low))
    differing = changes(parameters, base)
    setting = dataclasses.replace(base, **differing)
    assert {name: getattr(setting, name) for name in space} == parameters
    assert base.epochs not in [v for n, v in differing.items() if n == "epochs"]


def test_the_most_that_a_shard_has_to_hold() -> None:
    base = Setting(hvgs=700)
    own = {"hvgs": 700, "neighbors": 4, "image": True, "finetune": False}
    assert largest({"neighbors": Choice((16, 4))}, base) == own | {"neighbors": 16}
    assert largest({"hvgs": Range(100, 900)}, base) == own | {"hvgs": 900}
    assert largest({"finetune": Choice((False, True))}, base) == own | {"finetune": True}


def test_a_label_is_that_of_its_setting() -> None:
    assert label(Setting()) == label(Setting(neighbors=4)) != label(Setting(neighbors=8))
    assert label(Setting()).startswith("s-") and len(label(Setting())) == 10
