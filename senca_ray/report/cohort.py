"""What the page says of the cohort as a whole: which kinds of region recur, in whom, and on what grounds."""

from __future__ import annotations

from typing import Any

from senca_ray import keys
from senca_ray.analysis.kind_control import KindControl, read_control
from senca_ray.analysis.kinds import kind_genes, kind_shares, kind_table
from senca_ray.analysis.statistics import SIGNIFICANCE
from senca_ray.report.maps import colour_of
from senca_ray.report.view import StudyView
from senca_ray.report.words import counted, number, small_p


def cohort_content(view: StudyView) -> dict[str, Any] | None:
    """Kinds of region by section, and their genes; None where regions of sections were not matched."""
    matched = {sample: one for sample, one in view.portraits.items() if one.kinds}
    if len(matched) < 2:
        return None
    patients = {sample: view.displays[sample].patient for sample in matched}
    table, genes = kind_table(matched, patients), kind_genes(matched)
    shares = kind_shares(table)
    kinds = [
        {
            "kind": kind,
            "colour": colour_of(int(kind)),
            "patients": sorted(rows[keys.PATIENT].unique()),
            "n_sections": rows[keys.SAMPLE].nunique(),
            "spots": int(rows["spots"].sum()),
            "genes": genes[genes["kind"] == kind].to_dict("records"),
            "shares": shares.loc[kind, list(matched)].tolist(),
        }
        for kind, rows in table.groupby("kind")
    ]
    control = read_control(view.folder)
    return {
        "samples": [(sample, patients[sample]) for sample in matched],
        "n_patients": len(set(patients.values())),
        "kinds": kinds,
        "rests_on": control and rests_on(control),
    }


def rests_on(control: KindControl) -> str:
    """What the matching of regions rests on, and whether any regions could have been matched like this."""
    what = {
        "expression": f"the expression of {counted(control.genes, 'gene')}",
        "image": "what the image shows",
    }
    said = (
        f"Compared by {' and '.join(what[name] for name in control.rests_on)}. {control.recurring} of "
        f"{counted(control.regions, 'region')} are of a kind that recurs."
    )
    if control.alike is None or control.p is None:
        return f"{said} No regions of one kind could be compared on spots that had no part in matching them."
    said += (
        " As a control the regions were matched on half of their spots and compared on the other half: those "
        f"of one kind have a likeness of {number(control.alike, 'z.2f')} (1 is the same, 0 is none), with "
        f"kinds shuffled inside each section {number(control.shuffled, 'z.2f')} (19 of 20 shuffles below "
        f"{number(control.shuffled_high, 'z.2f')}); p {_equals(small_p(control.p))}."
    )
    if control.p < SIGNIFICANCE:
        return f"{said} So these kinds recur beyond chance."
    if control.least_p is not None and control.least_p >= SIGNIFICANCE:
        are = "is" if control.pairs == 1 else "are"
        return (
            f"{said} {counted(control.pairs, 'pair')} of regions {are} too few to tell: p could not be "
            f"below {small_p(control.least_p)}, whatever the tissue."
        )
    return f"{said} So chance could match regions as well as this: do not build on these kinds."


def _equals(p: str) -> str:
    return p if p.startswith("<") else f"= {p}"
