"""Reading the single files of a HER2ST section; each one's problems are collected, not raised."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from senca_ray import keys
from senca_ray.data.readers.findings import Findings
from senca_ray.data.readers.image import image_size
from senca_ray.data.readers.tables import (
    MISSING,
    quantity,
    quote,
    quote_some,
    read_lines,
    read_matrix,
    read_numbers,
    read_table,
    repeated,
)
from senca_ray.errors import SencaError

_SPOT = re.compile(r"(0|[1-9][0-9]{0,5})x(0|[1-9][0-9]{0,5})")
_MAX_COUNT = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Counts:
    """N spots, G genes."""

    spots: tuple[str, ...]
    genes: tuple[str, ...]
    matrix: csr_matrix | None
    """(N, G) int32; None when a cell is no count."""


def read_counts(findings: Findings) -> Counts | None:
    """Read the counts file; None when not even its spots can be told."""
    path = findings.files.counts
    with findings.collecting(path):
        lines = read_lines(path)
        genes = tuple(lines[0].split("\t")[1:])
        spots = tuple(line.split("\t", 1)[0] for line in lines[1:])
        if "" in genes:
            unnamed = f"{quantity(genes.count(''), 'gene')} without a name in the header"
            findings.problem(path, f"{unnamed}; expected a name for every gene; name or remove the column")
        if twice := repeated(gene for gene in genes if gene):
            message = (
                f"duplicated gene {quote_some(twice)}; expected every gene once; merge or remove the columns"
            )
            findings.problem(path, message)
        matrix = None
        with findings.collecting(path):
            matrix = _to_counts(read_matrix(lines[1:]), spots, genes, lines[1:])
        if wrong := [spot for spot in spots if not _SPOT.fullmatch(spot)]:
            raise SencaError(
                f"{quantity(len(wrong), 'spot')} not named by array coordinates: {quote_some(wrong)}; "
                "expected names such as 10x13 in the first column; rename the spots"
            )
        if twice := repeated(spots):
            message = (
                f"duplicated spot {quote_some(twice)}; expected every spot once; remove the repeated rows"
            )
            findings.problem(path, message)
        return Counts(spots, genes, matrix)
    return None


def _to_counts(
    values: np.ndarray, spots: tuple[str, ...], genes: tuple[str, ...], lines: list[str]
) -> csr_matrix:
    """Check that all values are counts; `lines` are the rows as text, for the message."""
    good = (values >= 0) & (values <= _MAX_COUNT) & (values == np.floor(values))
    if not good.all():
        row, column = np.argwhere(~good)[0]
        cell = lines[row].split("\t")[column + 1]
        raise SencaError(
            f"{quantity(int((~good).sum()), 'cell')} without a count, first spot {quote(spots[row])}, gene "
            f"{quote(genes[column])}: {quote(cell)}; expected whole numbers from 0 to {_MAX_COUNT:,}; "
            "write raw counts"
        )
    return csr_matrix(values.astype(np.int32))


def read_spot_file(findings: Findings, *, selected_needed: bool = True) -> pd.DataFrame | None:
    """Read the spot file: `selected`, and with an image pixel_x and pixel_y, by spot name.

    Where `selected` is not needed and the file has no such column, every spot is.
    """
    path = findings.files.spots
    if path is None:
        findings.notes.append("no spot file: positions are taken from the spots' names")
        return None
    pixels = ["pixel_x", "pixel_y"] if findings.files.image is not None else []
    with findings.collecting(path):
        named = selected_needed or "selected" in read_lines(path)[0].split("\t")
        columns = ["x", "y", *pixels, *(["selected"] if named else [])]
        table = read_table(path, columns)
        values = read_numbers(table, columns)
        if not named:
            values = np.column_stack([values, np.ones(len(values))])
        xy, selected = values[:, :2], values[:, -1]
        wrong = np.flatnonzero((xy != np.round(xy)).any(axis=1) | (xy < 0).any(axis=1))
        if len(wrong):
            raise SencaError(
                f"{quantity(len(wrong), 'row')} with array coordinates that are no whole numbers, first line "
                f"{wrong[0] + 2}: {xy[wrong[0], 0]:g}, {xy[wrong[0], 1]:g}; expected whole x and y from 0"
            )
        if not np.isin(selected, (0, 1)).all():
            odd = np.flatnonzero(~np.isin(selected, (0, 1)))[0]
            raise SencaError(f"line {odd + 2}: selected is {selected[odd]:g}; expected 0 or 1; correct it")
        names = _names(xy)
        if twice := repeated(names):
            raise SencaError(
                f"duplicated spot {quote_some(twice)}; expected every spot once; remove the rows"
            )
        return pd.DataFrame(values[:, 2:], index=names, columns=[*pixels, "selected"])
    return None


def _names(xy: np.ndarray) -> list[str]:
    """Spot names of (N, 2) array coordinates, rounded to whole numbers."""
    return [f"{round(x)}x{round(y)}" for x, y in xy.tolist()]


def read_labels(findings: Findings, path: Path, whose: str = "") -> dict[str, str] | None:
    """Read a label file: label by spot name, keys.UNDETERMINED for an empty label; None with problems.

    `whose` ends every note.
    """
    with findings.collecting(path):
        column = findings.files.label_column or "label"
        table = read_table(path, ["x", "y", column])
        xy = read_numbers(table, ["x", "y"], missing=True)
        placed = ~np.isnan(xy).any(axis=1)
        findings.note(int((~placed).sum()), "label row", f"left out: no coordinates{whose}")
        names = _names(xy[placed])
        lines = (np.flatnonzero(placed) + 2).tolist()
        if twice := repeated(names):
            first, second = [line for line, name in zip(lines, names, strict=True) if name == twice[0]][:2]
            raise SencaError(
                f"{quantity(len(twice), 'spot')} with two labels after rounding the coordinates, first "
                f"{quote(twice[0])} (lines {first} and {second}); expected one row a spot; remove one"
            )
        marks = [label.strip() for label in table[column][placed]]
        empty = sum(mark in MISSING for mark in marks)
        findings.note(empty, "label row", f"with an empty label: {keys.UNDETERMINED}{whose}")
        found = (keys.UNDETERMINED if mark in MISSING else mark for mark in marks)
        return dict(zip(names, found, strict=True))
    return None


def read_image_size(findings: Findings, max_pixels: int) -> tuple[int, int] | None:
    """(width, height) of the image in pixels; None without a usable image."""
    path = findings.files.image
    if path is not None:
        with findings.collecting(path):
            return image_size(path, max_pixels)
    return None
