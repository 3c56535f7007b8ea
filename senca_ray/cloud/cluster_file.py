"""What `senca` reads from the cluster file that `ray up` takes: machines, their prices, the storage."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from senca_ray.config import read_yaml
from senca_ray.errors import Problem, ProblemsError
from senca_ray.home import STORAGE

CLUSTER_FILE = Path("cluster.yaml")
"""Where the file lies unless told otherwise."""

PRICE = "price-per-hour"
"""Label of a node type: US dollars for an hour of one machine. Ray passes it on and does nothing with it."""

_STORAGE = re.compile(rf"\b{STORAGE}=([^\s'\"]+)")


@dataclass(frozen=True, kw_only=True)
class NodeType:
    """A kind of machine."""

    name: str
    instance: str
    """What the cloud calls it, for example g5.xlarge; empty where the provider has no such names."""
    spot: bool
    cpus: int
    gpus: int
    max_workers: int
    price: float | None
    """US dollars an hour; None where the file does not say."""
    config: Mapping[str, Any]
    """The provider's own settings, as they stand in the file."""


@dataclass(frozen=True, kw_only=True)
class ClusterFile:
    """A cluster as its file describes it."""

    path: Path
    name: str
    provider: str
    """aws, gcp, local ..."""
    region: str
    """Empty where the provider has none."""
    max_workers: int
    """Of all kinds together."""
    head: NodeType
    workers: tuple[NodeType, ...]
    storage: str | None
    """The address that its machines are given as SENCA_STORAGE."""
    raw: Mapping[str, Any]
    """The whole file."""
    idle_minutes: float = 5.0
    """After which a worker without work goes; the default is Ray's own."""


def read_cluster_file(path: Path) -> ClusterFile:
    """Read a cluster file; raises SencaError, or ProblemsError with all that is missing or wrong in it.

    Checks what `senca` needs; Ray's own check of the whole file is that of `senca doctor`.
    """
    raw = read_yaml(path)
    problems: list[Problem] = []

    def wrong(place: str, found: object, expected: str) -> None:
        problems.append(Problem("-", place, f"{found!r} found; expected {expected}"))

    provider = _mapping(raw.get("provider"))
    if not isinstance(provider.get("type"), str):
        wrong("provider.type", provider.get("type"), "aws, gcp or local")
    types = _mapping(raw.get("available_node_types"))
    head = raw.get("head_node_type")
    if head not in types:
        wrong("head_node_type", head, f"one of available_node_types: {', '.join(map(str, types)) or 'none'}")
    most = raw.get("max_workers", 2)
    if not _is_count(most):
        wrong("max_workers", most, "a number of machines")
    idle = raw.get("idle_timeout_minutes", 5.0)
    if not isinstance(idle, int | float) or isinstance(idle, bool) or not 0 <= idle < float("inf"):
        wrong("idle_timeout_minutes", idle, "minutes")
    nodes = [_node_type(str(name), _mapping(given), wrong) for name, given in types.items()]
    if problems:
        raise ProblemsError(problems, str(path))
    found = _STORAGE.search("\n".join(text for _, text in texts(raw)))
    return ClusterFile(
        path=path,
        name=str(raw.get("cluster_name", "")),
        provider=provider["type"],
        region=str(provider.get("region", "")),
        max_workers=most,
        head=next(node for node in nodes if node.name == head),
        workers=tuple(node for node in nodes if node.name != head),
        storage=found.group(1) if found else None,
        raw=raw,
        idle_minutes=float(idle),
    )


def _node_type(name: str, given: Mapping[str, Any], wrong: Any) -> NodeType:
    place = f"available_node_types.{name}"
    resources, config = _mapping(given.get("resources")), _mapping(given.get("node_config"))
    most = given.get("max_workers", 0)
    price = _mapping(given.get("labels")).get(PRICE)
    for field, value in (
        ("max_workers", most),
        ("resources.CPU", resources.get("CPU", 0)),
        ("resources.GPU", resources.get("GPU", 0)),
    ):
        if not _is_count(value):
            wrong(f"{place}.{field}", value, "a number, 0 or more")
    try:
        dollars = None if price is None else float(price)
        if dollars is not None and not 0 <= dollars < float("inf"):
            raise ValueError
    except (TypeError, ValueError):
        wrong(f"{place}.labels.{PRICE}", price, "US dollars an hour in quotes, for example '0.53'")
        dollars = None
    market = _mapping(config.get("InstanceMarketOptions")).get("MarketType")
    scheduling = _mapping(config.get("scheduling"))
    spot = (
        market == "spot"
        or scheduling.get("provisioningModel") == "SPOT"
        or bool(scheduling.get("preemptible"))
    )
    return NodeType(
        name=name,
        instance=str(config.get("InstanceType") or config.get("machineType") or ""),
        spot=spot,
        cpus=int(resources.get("CPU", 0)) if _is_count(resources.get("CPU", 0)) else 0,
        gpus=int(resources.get("GPU", 0)) if _is_count(resources.get("GPU", 0)) else 0,
        max_workers=most if _is_count(most) else 0,
        price=dollars,
        config=config,
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def texts(value: object, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a file with its place, for example ('provider.region', 'us-east-1')."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from texts(inner, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from texts(inner, f"{place}[{index}]")
