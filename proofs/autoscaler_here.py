"""Ray's autoscaler as on the head of an AWS cluster; proofs/ray_up_aws.py starts it in the head's home.

Reads ~/ray_bootstrap_config.yaml, as the head does, and is told of GPUs that trials wait for; goes round
until the machines expected are set up, or for a minute. Prints the machines as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from ray.autoscaler._private.autoscaler import StandardAutoscaler
from ray.autoscaler._private.load_metrics import LoadMetrics
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    NODE_KIND_WORKER,
    STATUS_UP_TO_DATE,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

ROUNDS = 120
PAUSE = 0.5
"""Seconds between two rounds."""


class _NoNodes:
    """Stands for Ray's GCS, which the autoscaler asks to empty machines before it ends them."""

    def drain_nodes(self, node_ids: list[bytes]) -> list[bytes]:
        return node_ids


def main() -> None:
    wanted, expected = int(sys.argv[1]), int(sys.argv[2])
    load = LoadMetrics()
    scaler = StandardAutoscaler(
        str(Path("~/ray_bootstrap_config.yaml").expanduser()), load, _NoNodes(), update_interval_s=0
    )
    provider: Any = scaler.provider
    (head,) = provider.non_terminated_nodes({TAG_RAY_NODE_KIND: NODE_KIND_HEAD})
    ip = provider.internal_ip(head)
    ready: list[str] = []
    for _ in range(ROUNDS):
        waiting = [{"CPU": 4.0, "GPU": 1.0}] * max(0, wanted - len(ready))
        load.update(ip, b"head", {"CPU": 0.0}, {}, 0.0, waiting_bundles=waiting)
        scaler.update()
        time.sleep(PAUSE)
        workers = provider.non_terminated_nodes({TAG_RAY_NODE_KIND: NODE_KIND_WORKER})
        tags = {node: provider.node_tags(node) for node in workers}
        ready = [node for node in workers if tags[node].get(TAG_RAY_NODE_STATUS) == STATUS_UP_TO_DATE]
        for node in ready:
            # A worker that has joined has its GPU taken by a trial.
            full = {"CPU": 4.0, "GPU": 1.0}
            load.update(provider.internal_ip(node), node.encode(), full, {}, 0.0, waiting_bundles=waiting)
        if len(ready) >= expected:
            break
    machines = [
        {
            "id": node,
            "ip": provider.internal_ip(node),
            "type": provider.node_tags(node)[TAG_RAY_USER_NODE_TYPE],
        }
        for node in ready
    ]
    print("MACHINES " + json.dumps(machines))


if __name__ == "__main__":
    main()
