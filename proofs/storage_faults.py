"""Proof: a storage that answers with errors, late, or not at all for a minute costs a study only time.

A host of this machine (see hosts.py) runs `experiments/sweep_neighbors.py` with everything in a loopback S3
behind a proxy that fails on request. The table has to be that of an undisturbed run.

Linux and root; `apt-get install -y iproute2 openssh-server rsync`.
"""

from __future__ import annotations

import faults
from faulty_storage import DELAYS, ERRORS, SILENCE, faulty
from hosts import network, storage
from outcome import write_result
from small_study import SmallStudy, say

FAULTS = {ERRORS: "errors (503, 500)", DELAYS: "answers 8 s late", SILENCE: "no answers"}


def main() -> None:
    """Print what happens, write the result; SystemExit where it does not hold."""
    with network() as hosts, storage(hosts.address) as s3, faulty(s3, hosts.address) as proxy:
        host = hosts.start("worker", SmallStudy("", proxy.storage, hosts).environment)
        quiet = SmallStudy("undisturbed", proxy.storage, hosts)
        quiet.begin(host).end()
        say(f"undisturbed: {len(quiet.table())} rows")
        found = []
        for fault, words in FAULTS.items():
            study = SmallStudy(fault, proxy.storage, hosts)
            outcome = faults.storage_away(study, host, quiet.table(), proxy, fault, words)
            say(f"{words}: equal, {outcome.rows} rows; the user saw: {outcome.seen}")
            found.append(outcome.as_json())
        write_result("storage_faults", found)


if __name__ == "__main__":
    main()
