from __future__ import annotations

from rich.console import Console
from rich.table import Table

from senca_ray.bench.figure import Figure
from senca_ray.bench.record import compare, new_record
from senca_ray.bench.tables import changes_table, figures_table


def lines(table: Table) -> list[str]:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table)
    return captured.get().splitlines()


def figure(name: str, *runs: float, bound: float | None = None) -> Figure:
    return Figure(name=name, title=name, unit="s", runs=runs, bound=bound)


def test_bounds_and_verdicts_stand_beside_the_medians() -> None:
    shown = lines(
        figures_table(
            new_record([figure("a", 1, 2, 30), figure("b", 3, bound=2), figure("c", 1, bound=1)], {})
        )
    )
    rows = {line.split()[0]: line.split()[1:] for line in shown if line.strip()}
    assert rows["a"] == ["2", "s", "1", "30"]
    assert rows["b"] == ["3", "s", "3", "3", "<=", "2", "MISSED"]
    assert rows["c"][-1] == "met"


def test_nothing_measured_is_an_empty_table() -> None:
    assert any("none" in line for line in lines(figures_table(new_record([], {}))))


def test_a_ratio_has_its_verdict() -> None:
    first, second = new_record([figure("a", 2), figure("z", 0)], {}), new_record([figure("a", 3)], {})
    shown = lines(changes_table(compare(first, second)))
    rows = {line.split()[0]: line.split()[1:] for line in shown if line.strip()}
    assert rows["a"] == ["2", "s", "3", "s", "1.50", "worse"]
    assert rows["z"] == ["0", "s"]
