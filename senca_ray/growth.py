"""What Ray's autoscaler may make of the connected cluster.

Ray's own state has a place for it, but neither version of the autoscaler fills it in (2.60). Both read the
file that the head was started with again and again; so does this module, on the head, where drivers run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

_MONITOR = "monitor.py"
"""The script of the process that Ray's autoscaler lives in, whichever version."""
_FILE, _CLUSTER = "--autoscaling-config=", "--gcs-address="
"""Its arguments: the cluster file, and the cluster."""


class Growth:
    """Tells, of the cluster that this process is connected to, what it may have once it is fully grown."""

    def __init__(self) -> None:
        import ray

        self._file = _config_file(ray.get_runtime_context().gcs_address)

    def most(self) -> dict[str, float]:
        """CPU, GPU and others, each at its most; nothing where no autoscaler runs on this machine.

        Not what it may have at once: machines with and without GPUs that share one limit both count in full.
        """
        if self._file is None:
            return {}
        from senca_ray.config import read_yaml
        from senca_ray.errors import SencaError

        try:
            # Read anew each time: `ray up` with other limits writes it, and the autoscaler follows.
            return most_of(read_yaml(self._file))
        except SencaError:
            return {}  # being written just now


def most_of(config: Mapping[str, Any]) -> dict[str, float]:
    """What a cluster of this cluster file may have, its head included, of each resource."""
    types = dict(config.get("available_node_types") or {})
    head = types.pop(config.get("head_node_type"), None) or {}
    machines = config.get("max_workers") or 0
    names = {name for kind in (head, *types.values()) for name in kind.get("resources") or {}}
    return {name: _amount(head, name) + _of_workers(name, list(types.values()), machines) for name in names}


def _of_workers(name: str, types: list[Mapping[str, Any]], machines: int) -> float:
    """The most of one resource that so many machines have, those with most of it first."""
    total = 0.0
    for kind in sorted(types, key=lambda kind: -_amount(kind, name)):
        count = max(0, min(machines, kind.get("max_workers", machines)))
        total, machines = total + count * _amount(kind, name), machines - count
    return total


def _amount(kind: Mapping[str, Any], name: str) -> float:
    return float((kind.get("resources") or {}).get(name, 0))


def _config_file(gcs_address: str) -> Path | None:
    """The file that the autoscaler of the cluster at this address reads, if it runs on this machine."""
    for process in psutil.process_iter(["cmdline"]):
        arguments = process.info["cmdline"] or []  # None: another user's, or ending just now
        if not any(Path(argument).name == _MONITOR for argument in arguments):
            continue
        given = {
            name: a.removeprefix(name) for name in (_FILE, _CLUSTER) for a in arguments if a.startswith(name)
        }
        if given.get(_CLUSTER) == gcs_address and _FILE in given:
            return Path(given[_FILE]).expanduser()
    return None
