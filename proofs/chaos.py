"""The chaos table of docs/reliability.md: everything that may happen to a study, made to happen, one by one.

    python proofs/chaos.py [FAULT ...]

On hosts of this machine (see hosts.py) with a loopback S3. After each fault the study has to end with the
table of an undisturbed run. Writes the table into the page, and proofs/results/chaos.json.

Linux and root; `apt-get install -y iproute2 openssh-server rsync`.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import faults
from faults import Outcome
from faulty_storage import faulty
from hosts import ROOT, network, storage
from outcome import RESULTS, write_result
from small_study import SmallStudy, say
from storage_faults import FAULTS

from senca_ray.files import write_text

_RESULT = RESULTS / "chaos.json"
_PAGE = ROOT / "docs" / "reliability.md"
_BEGIN, _END = "<!-- table: python proofs/chaos.py -->", "<!-- end of table -->"
_WORKER = "[r]ay::(_Worker|ResourceTrainable)"
_WIDEST = 180
"""Characters of a cell; the results have it whole."""
_DRIVER = "[s]weep_neighbors.py"


def main() -> None:
    """Make everything happen; SystemExit at the first that does not end as it should."""
    with network() as hosts, storage(hosts.address) as s3, faulty(s3, hosts.address) as proxy:
        environment = SmallStudy("", proxy.storage, hosts).environment
        first, second = (hosts.start(name, environment) for name in ("first", "second"))
        calm = SmallStudy("undisturbed", proxy.storage, hosts)
        calm.begin(first).end()
        quiet = calm.table()
        say(f"undisturbed: {len(quiet)} rows")

        def study(name: str) -> SmallStudy:
            return SmallStudy(name, proxy.storage, hosts)

        def inside(name: str, words: str, pattern: str) -> Outcome:
            return faults.killed_inside(study(name), first, quiet, words, pattern)

        def stopped(name: str, words: str, injected: str, code: int) -> Outcome:
            return faults.stopped(study(name), first, quiet, words, injected, code)

        def away(fault: str) -> Outcome:
            return faults.storage_away(study(fault), first, quiet, proxy, fault, FAULTS[fault])

        known: dict[str, Callable[[], Outcome]] = {
            "worker": lambda: inside("worker", "worker process of a trial killed", _WORKER),
            "aggregator": lambda: inside("aggregator", "aggregator killed", "[r]ay::Aggregator"),
            "node": lambda: stopped("node", "Ray's own node killed", "pkill -9 raylet", 2),
            "driver": lambda: stopped("driver", "driver killed", f"pkill -9 -f '{_DRIVER}'", -9),
            "interrupt": lambda: stopped("interrupt", "Ctrl-C", faults.INTERRUPT, 130),
            **{fault: lambda fault=fault: away(fault) for fault in FAULTS},  # type: ignore[misc]
            # The last one: it takes `first` away.
            "machine": lambda: faults.machine_lost(study("machine"), first, second, quiet),
        }
        chosen = [name for name in known if name in sys.argv[1:] or not sys.argv[1:]]
        # Those that are not asked for stay as they were.
        found = json.loads(_RESULT.read_text())["found"] if _RESULT.exists() else {}
        for name in chosen:
            outcome = known[name]()
            say(f"{name}: equal, {outcome.rows} rows, {outcome.seconds:.0f} s; seen: {outcome.seen}")
            found[name] = outcome.as_json()
            found = {name: found[name] for name in known if name in found}
            write_result("chaos", found)
            _write_table(found)


def _write_table(found: dict[str, dict[str, Any]]) -> None:
    """Put the table into the page, between its marks."""
    head = "| Fault | How it is injected | What the user sees | What the user does | Lost | Seconds |"
    lines = [head, "|---|---|---|---|---|---:|"]
    for one in found.values():
        cells = [one[name] for name in ("fault", "injected", "seen", "done", "lost")]
        cells = [textwrap.shorten(cell, _WIDEST, placeholder=" …") for cell in cells]
        cells.append(f"{one['seconds']:.0f}")
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    before, _, rest = _PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    after = rest.partition(_END)[2]
    write_text(_PAGE, f"{before}{_BEGIN}\n{chr(10).join(lines)}\n{_END}{after}")


if __name__ == "__main__":
    main()
