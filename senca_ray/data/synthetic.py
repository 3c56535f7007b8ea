"""The embedded cohort: simulated sections in the HER2ST folder layout.

It is there for mechanics, demonstrations and scale, and never evidence of accuracy: a method that does
well here has shown that it runs, nothing about tissue. The regions' names are a pathologist's so that
figures read naturally; the genes are invented and named by the programme they belong to.

What the sections hold is what the paper is about (SENCA-st, section 1): 'invasive cancer' and 'cancer in
situ' look alike and differ in expression, 'connective tissue' and 'adipose tissue' express alike and look
different. Their layout is symmetric on purpose: the two cancers share one tumour that an independent field
divides, so neither a patch nor its surroundings tells them apart, and no transcripts leak between spots.
"""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from PIL import Image

from senca_ray import keys
from senca_ray.data.synthetic_section import SimulatedSection, simulate_section
from senca_ray.errors import SencaError


def simulate_cohort(
    out: Path,
    *,
    patients: int = 3,
    sections_per_patient: int = 2,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> list[str]:
    """Write a simulated cohort in the HER2ST folder layout and return its sample ids.

    The same seed writes the same bytes. Raises SencaError when `out` holds files already or cannot be
    written; then nothing is left behind.
    """
    for name, value, low, high in (
        ("patients", patients, 1, 26),
        ("sections_per_patient", sections_per_patient, 1, 9),
        ("seed", seed, 0, 2**32 - 1),
    ):
        if not low <= value <= high:
            raise SencaError(f"{name}: {value} found; expected {low} to {high}")
    out = out.resolve()
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    samples = []
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise SencaError(
                f"{out}: exists and is not an empty folder; name a new folder, or remove this one"
            )
        partial.mkdir(parents=True)
        text = f"# Simulated with seed {seed}: for mechanics and demonstrations, not for judging accuracy.\n"
        (partial / "cohort.yaml").write_text(f"{text}labels: {keys.SIMULATED}\n", encoding="utf-8")
        for patient in range(patients):
            for section in range(sections_per_patient):
                simulated = simulate_section(patient, section, seed=seed)
                _write(simulated, partial)
                samples.append(simulated.sample)
                if progress is not None:
                    spots, genes = simulated.counts.shape
                    progress(f"{simulated.sample}: {spots} spots, {genes} genes, H&E image")
        partial.rename(out)
    except OSError as error:
        raise SencaError(
            f"{out}: cannot be written ({error.strerror}); name a folder you may write to, with 20 MB free"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return samples


def _write(section: SimulatedSection, root: Path) -> None:
    """Write one section's four files."""
    sample, patient = section.sample, section.patient
    folders = ("ST-cnts", "ST-spotfiles", "ST-pat/lbl", f"ST-imgs/{patient}/{sample}")
    counts, spots, labels, images = (root / folder for folder in folders)
    for folder in (counts, spots, labels, images):
        folder.mkdir(parents=True, exist_ok=True)

    names = [f"{x}x{y}" for x, y in section.xy]
    table = pd.DataFrame(section.counts, index=names, columns=list(section.genes))
    # No time stamp in the gzip header: the same seed has to give the same bytes.
    (counts / f"{sample}.tsv.gz").write_bytes(gzip.compress(table.to_csv(sep="\t").encode(), mtime=0))

    exact, pixel = section.exact_xy.round(3), section.pixel_xy.round(2)
    pd.DataFrame(
        {
            "x": section.xy[:, 0],
            "y": section.xy[:, 1],
            "new_x": exact[:, 0],
            "new_y": exact[:, 1],
            "pixel_x": pixel[:, 0],
            "pixel_y": pixel[:, 1],
            "selected": 1,
        }
    ).to_csv(spots / f"{sample}_selection.tsv", sep="\t", index=False)
    pd.DataFrame(
        {
            "Row.names": [f"{x:.0f}x{y:.0f}" for x, y in pixel],
            "x": exact[:, 0],
            "y": exact[:, 1],
            "pixel_x": pixel[:, 0],
            "pixel_y": pixel[:, 1],
            "label": section.labels,
        }
    ).to_csv(labels / f"{sample}_labeled_coordinates.tsv", sep="\t", index=False)
    Image.fromarray(section.image).save(images / f"{sample}_HE.jpg", quality=90)
