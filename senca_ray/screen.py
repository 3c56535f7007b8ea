"""Plain text and tables on a terminal: what a user named or a library said is never taken for markup."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


class Screen:
    """The terminal of a command."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console()

    def line(self, text: str) -> None:
        """Print one line as it is; the terminal breaks it where it is too long."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def table(self, table: Table) -> None:
        """Print a table, at most as wide as the terminal."""
        self._console.print(table)


def table(words: list[str], numbers: list[str]) -> Table:
    """A table with columns of words, then columns of numbers."""
    from senca_ray.analysis.terminal import plain_table

    return plain_table("", words, numbers)


def add_row(to: Table, *cells: str) -> None:
    """Add a row of plain text."""
    from rich.text import Text

    to.add_row(*map(Text, cells))
