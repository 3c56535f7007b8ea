"""`senca quality`: what is worth a look in a cohort before it is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from senca_ray import keys, options, screen
from senca_ray.errors import Problem, ProblemsError, SencaError
from senca_ray.screen import Screen

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

_MOST_ROWS = 40
"""Sections that the terminal shows; of more only those with a warning, up to as many."""
_HEADS = ("spots", "counts", "genes", "mito", "sharp", "off", "shift", "turned", "shared")
"""Of the columns of analysis.quality.MEASURES, for a terminal of 80 columns."""
_LEGEND = (
    "counts, genes: median of a spot; off: share of spots off tissue; shift: to the best fit of spots and "
    "tissue, in spot distances; turned: gain in fit by another orientation; shared: share of spots that "
    "another section has too; nothing: cannot be told."
)


def quality(
    path: Annotated[
        Path, typer.Argument(help="A folder of shards, a shard, or a study's folder.", metavar="DIR")
    ],
    out: Annotated[
        Path, typer.Option(help="Where the table and the figure go.", metavar="DIR", show_default=True)
    ] = Path("quality"),
    config: options.Config = None,
) -> None:
    """Show the quality of prepared sections, and what is beyond the limits.

    Spots, counts, genes, mitochondrial share, image sharpness, spots off tissue, fit of spots and tissue
    outline, and sections that are there twice. Writes quality.csv, quality.pdf and quality.png. The limits
    are the `quality:` part of --config; a changed limit prepares nothing again.

    \b
    Example:
      senca quality shards --out quality
    """
    from senca_ray.analysis.quality import measures_beyond, quality_table, quality_warnings, summary_lines
    from senca_ray.analysis.terminal import count
    from senca_ray.report.quality_figure import write_quality

    limits = options.configs(config, None).quality
    shards, notes = find_shards(path)
    table = quality_table(shards)
    warned = [bool(beyond) for beyond in measures_beyond(table, limits)]
    warnings = quality_warnings(table, limits)
    written = write_quality(table, limits, out)
    shown = Screen()
    rows = table if len(table) <= _MOST_ROWS else table[warned][:_MOST_ROWS]
    shown.table(_table(rows))
    shown.line(_LEGEND)
    if len(rows) < len(table):
        shown.line(f"{count(len(table) - len(rows), 'section')} more in {written[-1]}")
    if table["simulated"].any():
        shown.line("Simulated sections are among them: their numbers say nothing about tissue.")
    if missing := table.loc[~table["measured"], keys.SAMPLE].tolist():
        names = ", ".join(missing[:_MOST_ROWS]) + (", ..." if len(missing) > _MOST_ROWS else "")
        shown.line(
            f"not measured: {names}: prepared by an earlier version; delete the shard, prepare it again"
        )
    for note in notes:
        shown.line(f"note: {note}")
    for line in summary_lines(warnings):
        shown.line(f"warning: {line}")
    shown.line(f"{count(len(warnings), 'warning')} in {count(len(table), 'section')}")
    for file in written:
        shown.line(f"  {file}")


def find_shards(path: Path) -> tuple[dict[str, str], list[str]]:
    """Shards below `path` by sample, with notes on what was passed over.

    `path` is a study's folder, one shard or a folder of shards; of a sample that was prepared several times
    the newest counts. Raises SencaError where there are none, ProblemsError where none can be read.
    """
    from senca_ray.analysis.description import read_description
    from senca_ray.data.shards import read_meta

    if (path / keys.STUDY_FILE).is_file():
        return dict(read_description(path)["shards"]), []
    folders = [path] if (path / keys.SHARD_FILE).is_file() else []
    folders += sorted(p.parent for p in path.glob(f"[!.]*/{keys.SHARD_FILE}"))
    if not folders:
        raise SencaError(
            f"{path}: neither shards nor a study in it; give the --out of `senca prepare` or a study's folder"
        )
    found: dict[str, str] = {}
    notes, problems = [], []
    for folder in sorted(folders, key=lambda f: (f / keys.SHARD_FILE).stat().st_mtime_ns):
        try:
            sample = str(read_meta(str(folder))[keys.SAMPLE])
        except (SencaError, ValueError, KeyError) as error:
            problems.append(
                Problem("-", folder.name, f"cannot be read ({error}); delete it, prepare it again")
            )
            continue
        if sample in found:
            notes.append(f"{Path(found[sample]).name} left out: {sample} was prepared again")
        found[sample] = str(folder)
    if not found:
        raise ProblemsError(problems, str(path))
    return found, [*notes, *(f"{p.place} left out: {p.message}" for p in problems)]


def _table(rows: pd.DataFrame) -> Table:
    """Every section with its measures; a value that is not known is left empty."""
    from senca_ray.analysis.quality import MEASURES

    table = screen.table(["section", "patient"], list(_HEADS))
    for row in rows.to_dict("records"):
        values = ((m, row[m.column]) for m in MEASURES)
        # Only what is not known differs from itself.
        numbers = ("" if value != value else m.shown(value) for m, value in values)
        screen.add_row(table, str(row[keys.SAMPLE]), str(row[keys.PATIENT]), *numbers)
    return table
