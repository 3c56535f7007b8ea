"""What `senca doctor` asks AWS about how many machines it will get: quotas, spot prices, spot capacity."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from senca_ray.cloud.cluster_file import NodeType
from senca_ray.cloud.doctor import CannotLook, Check, Verdict, failed, passed, warning

if TYPE_CHECKING:
    from senca_ray.cloud.doctor_aws import Aws

_QUOTAS = {
    ("G", False): ("L-DB2E81BA", "G and VT on demand"),
    ("G", True): ("L-3819A6DF", "G and VT spot"),
    ("P", False): ("L-417A185B", "P on demand"),
    ("P", True): ("L-7212CCBC", "P2-P4 spot"),
    ("standard", False): ("L-1216C47A", "standard on demand"),
    ("standard", True): ("L-34B43A08", "standard spot"),
}
"""Code and short name of AWS's quotas, by class of machine and whether it is spot. Counted in vCPUs."""
_CLASSES = {"g": "G", "gr": "G", "vt": "G", "p": "P"} | dict.fromkeys(
    ("a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z"), "standard"
)
"""Classes by the letters that an instance type begins with; others (Trainium, Mac) have their own quotas."""
_DEARER = 1.1
"""Times the price in the cluster file from which a price is told."""
_LOW_SCORE = 3
_FEWEST_TYPES = 3
"""Types below which AWS answers with a low placement score whatever the capacity (its documentation)."""


@dataclass(frozen=True)
class _Quota:
    """One quota, and the machines of the cluster that count towards it."""

    code: str
    name: str
    nodes: tuple[NodeType, ...]


def quota_checks(aws: Aws) -> list[Check]:
    """A check for each quota that the cluster's machines count towards."""
    groups: dict[tuple[str, str], list[NodeType]] = {}
    for node in aws.types:
        groups.setdefault(_QUOTAS.get((_class(node.instance), node.spot), ("", node.instance)), []).append(
            node
        )
    quotas = [_Quota(code, name, tuple(nodes)) for (code, name), nodes in groups.items()]
    return [Check(f"quota: {quota.name}", lambda quota=quota: _quota(aws, quota)) for quota in quotas]  # type: ignore[misc]


def _class(instance: str) -> str:
    letters = re.match(r"[a-z]+", instance)
    newest = re.match(r"p[5-9]", instance)  # their spot quota is another
    return "" if newest else _CLASSES.get(letters.group() if letters else "", "")


def _quota(aws: Aws, quota: _Quota) -> Verdict:
    if not quota.code:
        raise CannotLook(
            f"which quota {quota.name} counts towards is not known here; see the Service Quotas page"
        )
    region = aws.cluster.region
    if missing := sorted({n.instance for n in quota.nodes} - set(aws.sizes)):
        raise CannotLook(f"{', '.join(missing)} is not offered: see instance types")
    least, most = _vcpus(aws, quota.nodes)
    allowed = _allowed(aws, quota.code)
    fix = (
        f"aws service-quotas request-service-quota-increase --region {region} --service-code ec2 "
        f"--quota-code {quota.code} --desired-value {most} (takes hours to days)"
    )
    found = f"{allowed:g} vCPUs in {region}, less what runs already"
    if allowed < least:
        return failed(found, f"{least} for the smallest cluster, {most} for the largest", fix)
    if allowed < most:
        return warning(found, f"{most} for all the machines that the cluster may start", fix)
    return passed(f"{found}; the cluster takes {most} at most")


def _allowed(aws: Aws, code: str) -> float:
    from botocore.exceptions import ClientError

    from senca_ray.cloud.doctor_aws import asking, code_of

    quotas = aws.client("service-quotas")
    asked = {"ServiceCode": "ec2", "QuotaCode": code}
    with asking("servicequotas:GetServiceQuota"):
        try:
            return float(quotas.get_service_quota(**asked)["Quota"]["Value"])
        except ClientError as error:
            if code_of(error) != "NoSuchResourceException":
                raise
        # An account that never asked for another value may only have AWS's default.
        return float(quotas.get_aws_default_service_quota(**asked)["Quota"]["Value"])


def _vcpus(aws: Aws, nodes: Sequence[NodeType]) -> tuple[int, int]:
    """vCPUs of the smallest cluster that works (head and a worker) and of the largest, of these machines."""
    size = {node.name: aws.sizes[node.instance]["CPU"] for node in nodes}
    head = sum(size[node.name] for node in nodes if node.name == aws.cluster.head.name)
    workers = sorted(
        (node for node in nodes if node.name != aws.cluster.head.name), key=lambda node: -size[node.name]
    )
    room, most = aws.cluster.max_workers, 0
    for node in workers:
        count = min(node.max_workers, room)
        room, most = room - count, most + count * size[node.name]
    return head + min((size[node.name] for node in workers), default=0), head + most


def spot_checks(aws: Aws) -> list[Check]:
    """Checks of spot machines, where the cluster has any."""
    if not any(node.spot for node in aws.types):
        return []
    return [
        Check("spot prices", lambda: spot_prices(aws)),
        Check("spot capacity", lambda: spot_capacity(aws)),
    ]


def spot_prices(aws: Aws) -> Verdict:
    """Whether spot machines cost what the file says, and no more than it would pay."""
    from senca_ray.cloud.doctor_aws import asking

    nodes = [node for node in aws.types if node.spot]
    names = sorted({node.instance for node in nodes})
    ec2 = aws.client("ec2")
    with asking("ec2:DescribeSpotPriceHistory"):
        # From now on: AWS answers with the price that holds in each zone.
        answer = ec2.describe_spot_price_history(
            InstanceTypes=names, ProductDescriptions=["Linux/UNIX"], StartTime=datetime.now(UTC)
        )["SpotPriceHistory"]
    now = {name: [float(p["SpotPrice"]) for p in answer if p["InstanceType"] == name] for name in names}
    if unsold := [name for name in names if not now[name]]:
        raise CannotLook(f"AWS tells no spot price of {', '.join(unsold)} in {aws.cluster.region}")
    for node in nodes:
        limit = (node.config.get("InstanceMarketOptions") or {}).get("SpotOptions", {}).get("MaxPrice")
        if limit is not None and float(limit) < min(now[node.instance]):
            return failed(
                f"{node.name}: MaxPrice {limit}, {node.instance} costs {min(now[node.instance]):g} or more",
                "a limit above the price, or none (then the on-demand price is the limit)",
                f"MaxPrice in {aws.cluster.path}",
            )
    told = ", ".join(f"{name} ${min(now[name]):.3g}-{max(now[name]):.3g}/h" for name in names)
    dearer = [n.name for n in nodes if n.price is not None and min(now[n.instance]) > _DEARER * n.price]
    if dearer:
        return warning(
            f"{told}: {', '.join(dearer)} cost more than the cluster file says",
            "prices of today, which `senca plan` counts with",
            f"price-per-hour in {aws.cluster.path}",
        )
    return passed(told)


def spot_capacity(aws: Aws) -> Verdict:
    """A hint whether spot machines will come: capacity itself nobody can tell beforehand."""
    from senca_ray.cloud.doctor_aws import asking

    names = sorted({node.instance for node in aws.types if node.spot})
    region = aws.cluster.region
    pools = sum(len(aws.zones[name]) for name in names)
    if len(names) == 1:
        return warning(
            f"one spot type ({names[0]}, {pools} zones): where it is short, no worker comes",
            "two types or more",
            f"another worker type with the same GPU memory in {aws.cluster.path}",
        )
    if len(names) < _FEWEST_TYPES:
        raise CannotLook(
            f"capacity cannot be known beforehand; {len(names)} types in {pools} pools (type and "
            "zone) to take from, and of fewer than 3 types AWS's placement score is always low"
        )
    ec2 = aws.client("ec2")
    with asking("ec2:GetSpotPlacementScores"):
        scores = ec2.get_spot_placement_scores(
            InstanceTypes=names,
            TargetCapacity=max(1, aws.cluster.max_workers),
            TargetCapacityUnitType="units",
            RegionNames=[region],
        )["SpotPlacementScores"]
    if not scores:
        raise CannotLook(f"AWS gives no placement score for {region}")
    score = scores[0]["Score"]
    found = f"placement score {score} of 10 for {aws.cluster.max_workers} machines in {region}: a hint only"
    if score <= _LOW_SCORE:
        return warning(
            found, f"more than {_LOW_SCORE}", "more instance types, fewer workers or another region"
        )
    return passed(found)
