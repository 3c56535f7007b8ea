"""Search space: which fields of Setting a search varies, and over what."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from senca_ray.config import Setting
from senca_ray.errors import Problem, ProblemsError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_KINDS: dict[str, type] = {name: type(value) for name, value in dataclasses.asdict(Setting()).items()}
"""Type of every field of Setting."""
_STORED = ("hvgs", "neighbors", "image", "finetune")
"""Fields of which the larger value asks more of a shard."""
_FORMS = "'1..100' (a range), '1..100:log', '5..40:5' (in steps of 5) or '4,8,16' (a choice)"


@dataclass(frozen=True)
class Range:
    """Every number from `low` to `high`, both among them."""

    low: float
    high: float
    log: bool = False
    """Even on a logarithmic scale."""
    step: float | None = None
    """Only low, low + step, ...; whole numbers go in steps of 1 where it is left out."""

    def ends(self) -> tuple[Any, ...]:
        """The smallest and the largest value."""
        return (self.low, self.high)

    def __contains__(self, value: float) -> bool:
        if not self.low <= value <= self.high:
            return False
        return self.step is None or _whole((value - self.low) / self.step)


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    options: tuple[Any, ...]

    def ends(self) -> tuple[Any, ...]:
        """All of them: they are in no order."""
        return self.options

    def __contains__(self, value: object) -> bool:
        return value in self.options


Space = Mapping[str, Range | Choice]
"""What is varied: fields of Setting, in the order of tables."""


def parse_text(texts: Iterable[str]) -> dict[str, Range | Choice]:
    """Read a space from command-line text such as 'mse_weight=1..100:log' or 'neighbors=4,8,16'.

    Raises ProblemsError with everything that cannot be read; `space_problems` checks the values.
    """
    values: dict[str, Any] = {}
    problems = []
    for text in texts:
        field, sign, given = text.partition("=")
        if not sign or not given:
            problems.append(Problem("-", "space", f"{text!r} found; expected NAME= with {_FORMS}"))
        elif field in values:
            problems.append(Problem("-", field, "given twice; expected once"))
        else:
            values[field] = _from_text(given)
    return _parsed(values, problems)


def parse_mapping(values: Mapping[str, Any]) -> dict[str, Range | Choice]:
    """Read a space from YAML values: a mapping with low, high, log, step is a range, a list a choice.

    Raises ProblemsError with everything that cannot be read; `space_problems` checks the values.
    """
    return _parsed(values, [])


def describe(space: Space) -> dict[str, Any]:
    """The space as JSON values, from which `parse_mapping` makes it again."""
    return {
        field: dataclasses.asdict(given) if isinstance(given, Range) else list(given.options)
        for field, given in space.items()
    }


def space_problems(space: Space, base: Setting) -> list[Problem]:
    """Everything that is wrong with a space around the setting `base`, which has to lie in it."""
    problems = [] if space else [Problem("-", "space", "nothing is varied; name a field and its values")]
    for field, given in space.items():
        messages = _shape_problems(field, given) or _value_problems(field, given, base)
        problems += [Problem("-", field, message) for message in messages]
    return problems


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The space in Optuna's words."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for field, given in space.items():
        if isinstance(given, Choice):
            found[field] = CategoricalDistribution(tuple(map(_KINDS[field], given.options)))
        elif _KINDS[field] is int:
            low, high, step = int(given.low), int(given.high), int(given.step or 1)
            found[field] = IntDistribution(low, high, log=given.log, step=step)
        else:
            found[field] = FloatDistribution(given.low, given.high, log=given.log, step=given.step)
    return found


def changes(parameters: Mapping[str, Any], base: Setting) -> dict[str, Any]:
    """The suggested values that differ from `base`."""
    return {name: value for name, value in parameters.items() if value != getattr(base, name)}


def largest(space: Space, base: Setting) -> dict[str, Any]:
    """The most that a suggestion may ask a shard for."""
    return {field: max(space[field].ends()) if field in space else getattr(base, field) for field in _STORED}


def label(setting: Setting) -> str:
    """How result rows name a suggestion: the same setting always has the same name."""
    return "s-" + hashlib.sha256(setting.to_json().encode()).hexdigest()[:8]


# --- Reading ------------------------------------------------------------------------------------------


def _from_text(text: str) -> Any:
    """Command-line text in the form that YAML has."""
    low, dots, rest = text.partition("..")
    if not dots:
        return [part.strip() for part in text.split(",")]
    high, *options = rest.split(":")
    found: dict[str, Any] = {"low": low, "high": high}
    for option in options:
        found |= {"log": True} if option == "log" else {"step": option}
    return found


def _parsed(values: Mapping[str, Any], problems: list[Problem]) -> dict[str, Range | Choice]:
    space: dict[str, Range | Choice] = {}
    for field, given in values.items():
        kind = _KINDS.get(field)
        if kind is None:
            known = ", ".join(_KINDS)
            problems.append(Problem("-", str(field), f"unknown; expected one of {known}"))
            continue
        try:
            if isinstance(given, Mapping):
                space[field] = _range(kind, given)
            elif isinstance(given, list | tuple):
                space[field] = Choice(tuple(_value(kind, option) for option in given))
            else:
                raise ValueError(f"{given!r} found; expected a list, or a mapping with low and high")
        except ValueError as error:
            problems.append(Problem("-", field, str(error)))
    if problems:
        raise ProblemsError(problems, "the search space")
    return space


def _range(kind: type, given: Mapping[str, Any]) -> Range:
    if not {"low", "high"} <= given.keys() or not given.keys() <= {"low", "high", "log", "step"}:
        raise ValueError(f"{dict(given)} found; expected low and high, and if wanted log or step")
    log, step = given.get("log", False), given.get("step")
    if not isinstance(log, bool):
        raise ValueError(f"log: {log!r} found; expected true or false")
    low, high = _value(kind, given["low"]), _value(kind, given["high"])
    return Range(low, high, log, None if step is None else _value(kind, step))


def _value(kind: type, given: Any) -> Any:
    """A value of a field's type; text is read because YAML takes 1e-4 for text. Raises ValueError."""
    if isinstance(given, str) and kind is bool and given.lower() in ("true", "false"):
        return given.lower() == "true"
    if isinstance(given, str) and kind in (int, float):
        try:
            return kind(given)
        except ValueError:
            pass
    if kind is float and isinstance(given, int) and not isinstance(given, bool):
        return float(given)
    if type(given) is not kind:
        raise ValueError(f"{given!r} found; expected {_WORDS[kind]}")
    return given


_WORDS = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}


# --- Checking -----------------------------------------------------------------------------------------


def _shape_problems(field: str, given: Range | Choice) -> list[str]:
    """What is wrong with a range or choice as such."""
    if field not in _KINDS:
        return [f"unknown; expected one of {', '.join(_KINDS)}"]
    if isinstance(given, Choice):
        if wrong := [v for v in given.options if not _fits(_KINDS[field], v)]:
            return [f"{wrong[0]!r} found; expected {_WORDS[_KINDS[field]]}"]
        if len(given.options) < 2 or len(set(given.options)) < len(given.options):
            return [f"{list(given.options)} found; expected two or more different options"]
        return []
    return _range_problems(_KINDS[field], given)


def _range_problems(kind: type, given: Range) -> list[str]:
    if kind not in (int, float):
        return [f"a range found; expected a choice of {_WORDS[kind]} values"]
    numbers = [given.low, given.high, *([] if given.step is None else [given.step])]
    if wrong := [v for v in numbers if not _fits(kind, v)]:
        return [f"{wrong[0]!r} found; expected {_WORDS[kind]}"]
    if given.low >= given.high:
        return [f"{given.low}..{given.high} is empty; expected low below high"]
    messages = []
    if given.log and given.low <= 0:
        messages.append(f"log from {given.low} found; expected low above 0")
    if given.step is not None:
        if given.log:
            messages.append("log and step found; expected one of them")
        if given.step <= 0 or not _whole((given.high - given.low) / given.step):
            span = f"{given.low}..{given.high}"
            messages.append(f"step {given.step} found; expected one that divides {span} evenly")
    return messages


def _value_problems(field: str, given: Range | Choice, base: Setting) -> list[str]:
    """What Setting refuses, and whether the base lies in the space: it is every search's first suggestion."""
    messages = []
    for value in given.ends():
        try:
            dataclasses.replace(base, **{field: value})
        except ProblemsError as error:
            messages += [p.message for p in error.problems]
    value = getattr(base, field)
    if not messages and value not in given:
        messages.append(
            f"the default {value!r} is not in it; add it (every search starts with it), or change the default"
        )
    return messages


def _fits(kind: type, value: Any) -> bool:
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is kind


def _whole(steps: float) -> bool:
    return abs(steps - round(steps)) < 1e-8
