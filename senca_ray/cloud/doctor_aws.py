"""What `senca doctor` asks AWS first: who this is, whether the region is there and has the machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from senca_ray.cloud.cluster_file import ClusterFile
from senca_ray.cloud.doctor import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    CannotLook,
    Check,
    Result,
    Verdict,
    failed,
    in_short,
    passed,
    warning,
)

DENIED = ("UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "AuthFailure")
"""What AWS calls it when somebody may not do something."""
_WHERE_LOGIN = "aws configure sso (or aws configure), or AWS_PROFILE of a profile that is there"


def aws_checks(cluster: ClusterFile) -> list[Check]:
    """Checks of a cluster file for AWS."""
    from senca_ray.cloud.doctor_launch import launch_checks
    from senca_ray.cloud.doctor_spot import quota_checks, spot_checks

    aws = Aws(cluster)
    return [
        Check("AWS credentials", aws.credentials),
        Check("AWS region", aws.region),
        Check("instance types", aws.instance_types),
        *quota_checks(aws),
        *spot_checks(aws),
        *launch_checks(aws),
    ]


def code_of(error: Exception) -> str:
    """AWS's own name for an error; empty for what is not an answer of AWS."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


@contextmanager
def asking(action: str) -> Iterator[None]:
    """A block in which AWS is asked; where it cannot be, or refuses to answer, raises CannotLook."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        if code_of(error) in DENIED:
            raise CannotLook(f"these credentials may not ask: {action} is denied") from None
        raise CannotLook(f"{action}: {in_short(error)}") from None
    except BotoCoreError as error:
        raise CannotLook(f"{action}: {in_short(error)}") from None


class Aws:
    """AWS as a cluster file would use it; what several checks need is asked once."""

    def __init__(self, cluster: ClusterFile, session: Any = None) -> None:
        """`session` is a boto3 session; left out: this machine's."""
        self.cluster = cluster
        self.types = [node for node in (cluster.head, *cluster.workers) if node.instance]
        self._given = session

    @cached_property
    def _session(self) -> Any:
        if self._given is not None:
            return self._given
        try:
            import boto3
        except ImportError:
            raise CannotLook("boto3 is not installed; pip install 'senca-ray[aws]'") from None
        return boto3.Session()

    @cached_property
    def _regions(self) -> set[str]:
        """Regions that the installed boto3 knows."""
        kinds = self._session.get_available_partitions()
        return {name for kind in kinds for name in self._session.get_available_regions("ec2", kind)}

    @property
    def _home(self) -> str:
        """A region that surely can be asked."""
        return self.cluster.region if self.cluster.region in self._regions else "us-east-1"

    def _plain_client(self, service: str, region: str) -> Any:
        from botocore.config import Config

        times = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=ANSWER_SECONDS,
            retries={"total_max_attempts": 2, "mode": "standard"},
        )
        return self._session.client(service, region_name=region, config=times)

    def client(self, service: str) -> Any:
        """A client for the cluster's region; raises CannotLook where there is nobody or nowhere to ask."""
        if self._identity.result is not Result.PASSED:
            raise CannotLook("needs AWS credentials: see there")
        if self.cluster.region not in self._regions and self._region.result is not Result.PASSED:
            raise CannotLook("needs a region: see there")
        return self._plain_client(service, self.cluster.region)

    def credentials(self) -> Verdict:
        """Whether there are credentials that AWS takes."""
        return self._identity

    @cached_property
    def _identity(self) -> Verdict:
        from_where = "credentials on this machine"
        try:
            session = self._session
        except CannotLook as reason:
            return failed(str(reason), "boto3: `ray up` uses it too", "pip install 'senca-ray[aws]'")
        except Exception as error:  # noqa: BLE001  botocore's errors can only be named once it is imported
            return failed(in_short(error), from_where, _WHERE_LOGIN)
        from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

        try:
            if session.get_credentials() is None:
                return failed("no credentials", from_where, _WHERE_LOGIN)
            who = self._plain_client("sts", self._home).get_caller_identity()
        except (ConnectionError, HTTPClientError) as error:
            return Verdict(Result.NOT_CHECKED, f"no answer from AWS ({in_short(error)})")
        except ClientError as error:
            clock = (
                " (or this clock: see there)" if code_of(error).startswith(("Signature", "Request")) else ""
            )
            return failed(f"AWS refuses them{clock}: {in_short(error)}", "valid ones", _WHERE_LOGIN)
        except Exception as error:  # noqa: BLE001  expired logins and half-filled profiles, each its own class
            return failed(in_short(error), from_where, f"aws sso login, or {_WHERE_LOGIN}")
        return passed(str(who["Arn"]))

    def region(self) -> Verdict:
        """Whether the region is there, and open to this account."""
        return self._region

    @cached_property
    def _region(self) -> Verdict:
        name = self.cluster.region
        wanted, fix = "a region of AWS, for example us-east-1", f"provider.region in {self.cluster.path}"
        if not name:
            return failed("no provider.region in the cluster file", wanted, fix)
        known = name in self._regions
        try:
            if self._identity.result is not Result.PASSED:
                raise CannotLook("needs AWS credentials: see there")
            with asking("ec2:DescribeRegions"):
                answer = self._plain_client("ec2", self._home).describe_regions(AllRegions=True)
        except CannotLook:
            if known:
                raise
            return failed(f"{name} is none that boto3 knows", wanted, fix)
        states = {region["RegionName"]: region.get("OptInStatus", "") for region in answer["Regions"]}
        if name not in states:
            return failed(f"{name} is none of AWS's", wanted, fix)
        if states[name] == "not-opted-in":
            return failed(
                f"{name} is not open to this account",
                "a region that is",
                f"aws account enable-region --region-name {name}",
            )
        return self._zones_named() or passed(name)

    def _zones_named(self) -> Verdict | None:
        zones = str((self.cluster.raw.get("provider") or {}).get("availability_zone") or "")
        wrong = [z for z in map(str.strip, zones.split(",")) if z and not z.startswith(self.cluster.region)]
        if not wrong:
            return None
        return failed(
            f"provider.availability_zone: {', '.join(wrong)}",
            f"zones of {self.cluster.region}",
            f"correct it in {self.cluster.path}, or leave it out",
        )

    @cached_property
    def zones(self) -> Mapping[str, list[str]]:
        """The zones of the region in which each instance type of the file is offered."""
        names = sorted({node.instance for node in self.types})
        ec2 = self.client("ec2")
        with asking("ec2:DescribeInstanceTypeOfferings"):
            answer = ec2.describe_instance_type_offerings(
                LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": names}]
            )
        found = [(offer["InstanceType"], offer["Location"]) for offer in answer["InstanceTypeOfferings"]]
        return {name: sorted(zone for kind, zone in found if kind == name) for name in names}

    @cached_property
    def sizes(self) -> Mapping[str, Mapping[str, int]]:
        """vCPUs and GPUs ('CPU', 'GPU') of each instance type that is offered."""
        names = [name for name, zones in self.zones.items() if zones]
        ec2 = self.client("ec2")
        with asking("ec2:DescribeInstanceTypes"):
            answer = ec2.describe_instance_types(InstanceTypes=names)["InstanceTypes"] if names else []
        return {
            kind["InstanceType"]: {
                "CPU": kind["VCpuInfo"]["DefaultVCpus"],
                "GPU": sum(gpu["Count"] for gpu in kind.get("GpuInfo", {}).get("Gpus", [])),
            }
            for kind in answer
        }

    def instance_types(self) -> Verdict:
        """Whether the region offers the machines, and they have what the file promises of them."""
        region, path = self.cluster.region, self.cluster.path
        if missing := [name for name, zones in self.zones.items() if not zones]:
            return failed(
                f"not offered in {region}: {', '.join(missing)}",
                "instance types of the region",
                f"another InstanceType or region in {path}; offered: aws ec2 "
                f"describe-instance-type-offerings --region {region} "
                "--query 'InstanceTypeOfferings[].InstanceType'",
            )
        given = str((self.cluster.raw.get("provider") or {}).get("availability_zone") or "")
        own = {zone.strip() for zone in given.split(",") if zone.strip()}
        if own and (absent := [name for name, zones in self.zones.items() if not own & set(zones)]):
            return failed(
                f"not offered in {', '.join(sorted(own))}: {', '.join(absent)}",
                "zones that have them",
                f"provider.availability_zone in {path}: {', '.join(self.zones[absent[0]])}, or leave it out",
            )
        beyond = [
            f"{node.name} promises {promised} {what}, {node.instance} has {self.sizes[node.instance][what]}"
            for node in self.types
            for what, promised in (("CPU", node.cpus), ("GPU", node.gpus))
            if promised > self.sizes[node.instance][what]
        ]
        if beyond:
            return warning("; ".join(beyond), "no more than is there", f"resources in {path}")
        return passed(", ".join(f"{name} in {len(zones)} zones" for name, zones in self.zones.items()))
