"""What a benchmark's page says: who stands where, rows of its tables, methods with their sources."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from senca_ray import keys
from senca_ray.analysis.benchmark import published_beside, rankings, slow_seeds
from senca_ray.analysis.benchmark_tables import method_name
from senca_ray.analysis.blocks import block_title
from senca_ray.analysis.ranking import Ranking
from senca_ray.analysis.sensitivity import AS_REPORTED, sensitivity
from senca_ray.analysis.statistics import FEW, SIGNIFICANCE
from senca_ray.methods import Method, all_methods
from senca_ray.methods.protocol import Protocol
from senca_ray.report.search import value_text
from senca_ray.report.view import StudyView, missing

REFERENCE = "reference"
_WITHOUT_IMAGE = {block_title(source, keys.RNA) for source in keys.LABEL_SOURCES}
_MAPS = 8
"""Methods that a section has a map of."""
_READINGS = {
    "refined": "every spot given the region that most of its neighbours have",
    "not refined": "regions as the clustering leaves them",
    f"undetermined {keys.UNSCORED}": "all spots clustered, undetermined ones left out of the score",
    f"undetermined {keys.DROPPED}": "undetermined spots left out of clustering and score",
    f"undetermined {keys.SCORED}": "undetermined scored as a label of its own",
    "k policy labels": "as many regions as labels",
    "k policy auto": "the number of regions chosen without labels",
}
"""Other ways to read a fit, by the words of `Protocol.difference`."""


def benchmark_content(view: StudyView) -> dict[str, Any]:
    """What the page's template says of a benchmark, besides its figures."""
    description, results = view.description, view.results
    ranked = rankings(results, description)
    numbers = {name: n for n, name in enumerate(_names(view.compared), start=1)}
    return {
        "unit": description["unit"],
        "reference": description["reference"],
        "slow_seeds": slow_seeds(description),
        "protocol": Protocol.read(description).words(),
        "blocks": [
            _block(view, str(title), rows, ranked.get(str(title)))
            for title, rows in view.summary.groupby("block", sort=False)
        ],
        "sensitivity": _sensitivity(view),
        "published": _published(view),
        "missing": list(missing(view.compared).items()),
        "failures": _failures(view.tried),
        "numbers": numbers,
        "methods": [{"number": n} | _method(name, view.compared) for name, n in numbers.items()],
    }


def featured(summary: pd.DataFrame, block: str) -> list[dict[Any, Any]]:
    """The summary rows of a block that maps show: the reference, the best null, then the best of the others.

    At most 8 methods that ended well somewhere in the block, each with its best clustering.
    """
    rows = summary[(summary["block"] == block) & (summary[keys.CLUSTERING] != keys.CONSENSUS)]
    rows = rows[rows["is_default"] | (rows["n_sections"] > 0)]
    # The summary's order is that of mean ARI, which a stable sort keeps.
    rows = rows.sort_values("is_default", ascending=False, kind="stable").drop_duplicates(keys.METHOD)
    records = rows.to_dict("records")
    null = next((row for row in records if row["kind"] == keys.NULL and not row["is_default"]), None)
    return sorted(records, key=lambda row: (not row["is_default"], row is not null))[:_MAPS]


def _names(rows: pd.DataFrame) -> list[str]:
    """The methods of a study in order of kind and name."""
    known = all_methods()
    kinds = (*keys.METHOD_KINDS, "")
    names = map(str, rows[keys.METHOD].unique())
    return sorted(names, key=lambda name: (kinds.index(known[name].kind if name in known else ""), name))


def _block(view: StudyView, title: str, summary: pd.DataFrame, ranking: Ranking | None) -> dict[str, Any]:
    """What the page says of one block; only methods that scored as many units as any have a place."""
    rows = [_row(row, ranking) for row in summary.to_dict("records")]
    single = [row for row in rows if not row["consensus"] and pd.notna(row["mean_ari"])]
    consensus = [row for row in rows if row["consensus"] and pd.notna(row["mean_ari"])]
    whole = [row for row in single if ranking is not None and row["title"] in ranking.methods]
    reference = next((row for row in single if row["default"]), None)
    sections = view.sections[view.sections["block"] == title]
    return {
        "title": title,
        "n_sections": max(row["n_sections"] for row in rows),
        "n_patients": max(row["n_patients"] for row in rows),
        "rows": single,
        "compared": [row for row in single if row["n_paired"]],
        "consensus": consensus,
        "best": whole[0] if whole else None,
        "best_null": next((row for row in whole if row["kind"] == keys.NULL), None),
        "reference": reference,
        "n_ranked": len(whole),
        "place": _place(reference, whole),
        "apart": _apart(single),
        "remarks": [*_remarks(single, ""), *_remarks(consensus, "consensus of ")],
        "friedman": _friedman(ranking, reference),
        "no_image": _not_run(view.description, summary) if title in _WITHOUT_IMAGE else [],
        "tables": [_sections(part, sections) for part in (single, consensus) if part],
    }


def _row(row: dict[Any, Any], ranking: Ranking | None) -> dict[Any, Any]:
    """A row of the summary with what the page says of it."""
    consensus = row[keys.CLUSTERING] == keys.CONSENSUS
    title = row[keys.METHOD] if consensus else method_name(row)
    rank = ranking.mean_ranks.get(title) if ranking is not None and not consensus else None
    compared = not row["is_default"] and pd.notna(row["n_paired"])
    return row | {
        "title": title,
        "consensus": consensus,
        "default": row["is_default"],
        "n_paired": int(row["n_paired"]) if compared else 0,
        "mean_rank": rank,
    }


def _place(reference: dict[Any, Any] | None, ranked: list[dict[Any, Any]]) -> int | None:
    """Place of the reference by mean ARI, 1 is best; None where it is not among those ranked."""
    if reference is None or reference["title"] not in [row["title"] for row in ranked]:
        return None
    return 1 + sum(row["mean_ari"] > reference["mean_ari"] for row in ranked)


def _apart(rows: list[dict[Any, Any]]) -> dict[str, Any] | None:
    """Methods above and below the reference at 0.05 after Holm's correction, by test; None without a test."""
    tested = [row for row in rows if row["n_paired"] and pd.notna(row["sign_flip_p"])]
    if not tested:
        return None
    n = max(row["n_paired"] for row in tested)
    # That of a sign-flip test in which every unit agrees, after Holm's correction.
    smallest = min(1.0, len(tested) * 2 / 2**n)
    found: dict[str, Any] = {"n": n, "few": n < FEW, "n_tests": len(tested), "smallest": smallest}
    for test in ("sign_flip_p", "t_p"):
        apart = [row for row in tested if row[f"{test}_holm"] < SIGNIFICANCE]
        found[test] = {
            "above": [row["title"] for row in apart if row["mean_difference"] > 0],
            "below": [row["title"] for row in apart if row["mean_difference"] < 0],
        }
    return found


def _remarks(rows: list[dict[Any, Any]], of: str) -> list[tuple[str, str]]:
    """Each remark once, with the rows it is about."""
    compared = [row for row in rows if not row["default"]]
    found = []
    for text in dict.fromkeys(row["remark"] for row in compared if row["remark"]):
        about = [row["title"] for row in compared if row["remark"] == text]
        others = [row["title"] for row in compared if row["remark"] != text]
        names = ", ".join(about)
        if len(others) < len(about):
            names = "all rows" + (f" but {', '.join(others)}" if others else "")
        found.append((of + names, text))
    return found


def _friedman(ranking: Ranking | None, reference: dict[Any, Any] | None) -> dict[str, Any] | None:
    """Friedman's and Nemenyi's tests of a block, with the methods that differ from the reference by them."""
    if ranking is None or len(ranking.methods) < 2:
        return None
    differ = []
    if reference is not None and reference["title"] in ranking.nemenyi:
        p = ranking.nemenyi[reference["title"]]
        differ = [str(name) for name in p[p < SIGNIFICANCE].index]
    return {
        "p": ranking.friedman_p,
        "n": ranking.n,
        "n_methods": len(ranking.methods),
        "critical": ranking.critical_difference,
        "differ": differ,
        "remark": ranking.remark,
    }


def _not_run(description: dict[str, Any], summary: pd.DataFrame) -> list[str]:
    """Methods of the benchmark that need an image and were not run in a block without."""
    wanted = {text.partition(":")[0] for text in (description["reference"], *description["methods"])}
    ran = set(summary[keys.METHOD])
    return [
        name
        for name, used in all_methods().items()
        if used.needs_image and name not in ran and not wanted.isdisjoint({name, used.kind})
    ]


def _sections(rows: list[dict[Any, Any]], sections: pd.DataFrame) -> dict[str, Any]:
    """A line a method, best mean first, a column a section; a cell is a row of the section table or None."""
    key = [keys.METHOD, keys.CLUSTERING, keys.SAMPLE]
    cells = {tuple(row[name] for name in key): row for row in sections.to_dict("records")}
    samples = sorted(set(sections[[keys.SAMPLE, keys.PATIENT]].itertuples(index=False, name=None)))
    return {
        "consensus": rows[0]["consensus"],
        "columns": samples,
        "lines": [
            (row, [cells.get((row[keys.METHOD], row[keys.CLUSTERING], sample)) for sample, _ in samples])
            for row in rows
        ],
    }


def _sensitivity(view: StudyView) -> list[dict[str, Any]]:
    """Of each block what other ways to read the same fits do to the order of its methods."""
    frame = sensitivity(view.results, view.description)
    blocks = []
    for title, rows in frame.groupby("block", sort=False):
        readings = [
            row | {"words": _READINGS.get(row["reading"], row["reading"]), "own": own}
            for row in rows.astype(object).where(rows.notna(), None).to_dict("records")
            for own in [row["reading"] == AS_REPORTED]
        ]
        others = [row for row in readings if not row["own"]]
        agreement = [row["agreement"] for row in others if row["agreement"] is not None]
        ranks = [row["reference_rank"] for row in readings if row["reference_rank"] is not None]
        blocks.append(
            {
                "title": title,
                "readings": readings,
                "agreement": (min(agreement), max(agreement)) if agreement else None,
                "ranks": (min(ranks), max(ranks)) if ranks else None,
            }
        )
    return blocks


def _published(view: StudyView) -> list[dict[str, Any]]:
    """Printed scores of each block, with each remark once."""
    frame = published_beside(view.results, view.description)
    blocks = []
    for title, rows in frame.groupby("block", sort=False):
        texts = dict.fromkeys(text for text in rows["remark"].dropna() if text)
        records = [row | {"setting": row["setting"] or ""} for row in rows.to_dict("records")]
        blocks.append({"title": title, "rows": records, "remarks": list(texts)})
    return blocks


def _failures(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Failed fits, one line for all that a method failed at for the same reason."""
    failed = rows[(rows[keys.STATUS] == keys.FAILED) & (rows[keys.CLUSTERING] != keys.CONSENSUS)]
    return [
        {
            keys.METHOD: method,
            keys.REASON: reason,
            "samples": sorted(part[keys.SAMPLE].unique()),
            "clusterings": sorted(part[keys.CLUSTERING].unique()),
            "seeds": sorted(part[keys.SEED].unique()),
        }
        for (method, reason), part in failed.groupby([keys.METHOD, keys.REASON], dropna=False)
    ]


def _method(name: str, rows: pd.DataFrame) -> dict[str, Any]:
    """What a method is, with the settings that its rows were made with."""
    part = rows[(rows[keys.METHOD] == name) & (rows[keys.CLUSTERING] != keys.CONSENSUS)]
    used: Method | None = all_methods().get(name)
    configs = part[keys.CONFIG].dropna()
    follows = (part[keys.SETTING] != keys.FIXED).any()
    main_first = used.clusterings if used else ()
    clusterings = sorted(part[keys.CLUSTERING].unique(), key=lambda c: (*main_first, c).index(c))
    own = json.loads(configs.iloc[0]) if len(configs) and not follows else {}
    fields = ("title", "citation", "kind", "source", "modality", "needs_image", "checked", "seeded", "slow")
    return {
        "name": name,
        **{field: getattr(used, field) if used else "" for field in fields},
        "known": used is not None,
        "clusterings": clusterings,
        "seeds": part[keys.SEED].nunique(),
        "follows": follows,
        "settings": [(key, value_text(value)) for key, value in own.items()],
    }
