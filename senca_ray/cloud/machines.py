"""Which kind of machine Ray's autoscaler asks the cloud for: one that has not just been refused."""

from __future__ import annotations

from typing import Any


def score(
    node_resources: dict[str, Any],
    resources: list[dict[str, Any]],
    node_type: str,
    *,
    node_availability_summary: Any,
) -> tuple[Any, ...] | None:
    """Ray's own score of a node type for these demands, with types that the cloud has just refused behind all
    others; None where no demand fits.

    Ray remembers a refusal (no spot capacity, quota) for half an hour and by itself makes no use of it: of
    two types with equal resources it goes on asking for the same one. Named to Ray in
    RAY_AUTOSCALER_UTILIZATION_SCORER; read by autoscaler v1 only.
    """
    from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer

    own = _default_utilization_scorer(
        node_resources, resources, node_type, node_availability_summary=node_availability_summary
    )
    if own is None:
        return None
    known = node_availability_summary.node_availabilities.get(node_type)
    return (known is None or known.is_available, *own)
