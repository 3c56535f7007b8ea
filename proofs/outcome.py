"""What a proof leaves: proofs/results/NAME.json."""

from __future__ import annotations

import datetime
import os
from typing import Any

from hosts import ROOT

from senca_ray.files import write_json
from senca_ray.study.trial import versions

RESULTS = ROOT / "proofs" / "results"


def write_result(name: str, found: Any) -> None:
    """Write what was found, and on what kind of machine."""
    RESULTS.mkdir(exist_ok=True)
    content = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": versions(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[1], 1),
        "found": found,
    }
    write_json(RESULTS / f"{name}.json", content)
    print(f"written: proofs/results/{name}.json")
