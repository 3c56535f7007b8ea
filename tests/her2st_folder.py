"""A tiny valid cohort in the HER2ST folder layout, written to disk for tests to break."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

IMAGE_SIZE = (120, 90)
GENES = ("GENE1", "GENE2", "GENE3")


def counts_file(root: Path, sample: str) -> Path:
    return root / f"ST-cnts/{sample}.tsv.gz"


def spot_file(root: Path, sample: str) -> Path:
    return root / f"ST-spotfiles/{sample}_selection.tsv"


def label_file(root: Path, sample: str) -> Path:
    return root / f"ST-pat/lbl/{sample}_labeled_coordinates.tsv"


def image_file(root: Path, sample: str) -> Path:
    return root / f"ST-imgs/{sample[0]}/{sample}/{sample}.png"


def write_text(path: Path, text: str) -> None:
    """Write text, compressed when the name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.encode("utf-8")
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def read_text(path: Path) -> str:
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")


def edit(path: Path, old: str, new: str) -> None:
    """Replace the one occurrence of `old`."""
    text = read_text(path)
    assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times in {path.name}"
    write_text(path, text.replace(old, new))


def append(path: Path, line: str) -> None:
    write_text(path, f"{read_text(path)}{line}\n")


def write_section(
    root: Path,
    sample: str,
    spots: Sequence[tuple[int, int]],
    counts: np.ndarray,
    labels: Sequence[str] | None,
    genes: Sequence[str] = GENES,
    *,
    image: bool = True,
) -> None:
    """Write one section; label coordinates are off the grid, as in the public set."""
    rows = [
        "\t".join([f"{x}x{y}", *map(str, row)]) for (x, y), row in zip(spots, counts.tolist(), strict=True)
    ]
    write_text(counts_file(root, sample), "\n".join(["\t".join(["", *genes]), *rows]) + "\n")
    rows = [f"{x}\t{y}\t{x + 0.1}\t{y - 0.1}\t{10 * x + 0.5}\t{10 * y + 0.5}\t1" for x, y in spots]
    header = "x\ty\tnew_x\tnew_y\tpixel_x\tpixel_y\tselected"
    write_text(spot_file(root, sample), "\n".join([header, *rows]) + "\n")
    if labels is not None:
        rows = [
            f"{10 * x}x{10 * y}\t{x + 0.213:.3f}\t{y - 0.134:.3f}\t{10 * x}\t{10 * y}\t{label}"
            for (x, y), label in zip(spots, labels, strict=True)
        ]
        header = "Row.names\tx\ty\tpixel_x\tpixel_y\tlabel"
        write_text(label_file(root, sample), "\n".join([header, *rows]) + "\n")
    if image:
        path = image_file(root, sample)
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(0).integers(0, 256, (*IMAGE_SIZE[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


SPOTS = ((1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 2))
COUNTS = np.array([[5, 0, 2], [1, 1, 1], [0, 0, 1], [7, 3, 0], [2, 2, 9], [4, 0, 0]])
LABELS = ("invasive cancer", "invasive cancer", "undetermined", "adipose tissue", "adipose tissue", "in situ")


def write_tiny_cohort(root: Path) -> Path:
    """Write sections A1 (annotated, image), B4 (transferred, no image) and C9 (counts only, plain text)."""
    write_section(root, "A1", SPOTS, COUNTS, LABELS)
    write_section(root, "B4", SPOTS, COUNTS, LABELS, image=False)
    write_section(root, "C9", SPOTS, COUNTS, None, image=False)
    spot_file(root, "C9").unlink()
    write_text(root / "ST-cnts/C9.tsv", read_text(counts_file(root, "C9")))
    counts_file(root, "C9").unlink()
    return root
