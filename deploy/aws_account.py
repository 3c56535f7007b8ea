"""Prepares an AWS account for cluster.yaml, once: `python deploy/aws_account.py --ssh-from 203.0.113.7/32`.

Makes a security group that lets ssh in from one range of addresses and nothing else, and the two roles of
deploy/*_policy.json with their instance profiles. Run again, it puts right what has changed: another range,
another bucket, edited policies. Needs the rights of an account's administrator; `ray up` does not.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from senca_ray.cloud.cluster_file import ClusterFile, read_cluster_file
from senca_ray.errors import SencaError

HERE = Path(__file__).parent
GROUP = "senca-ray"
ROLES = {
    "senca-ray-head": ("aws_head_policy.json", "aws_worker_policy.json"),
    "senca-ray-worker": ("aws_worker_policy.json",),
}
"""Role, and profile of the same name, with its policies: the head also reads and writes the bucket."""

WIDEST = 16
"""Bits that a range of addresses names at least: a university's network, not a continent."""


def ssh_range(text: str) -> str:
    """An IPv4 range that ssh is let in from; raises argparse.ArgumentTypeError for one that is too wide."""
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{error}; expected ADDRESS/BITS, for example 203.0.113.7/32"
        ) from None
    if network.prefixlen < WIDEST:
        raise argparse.ArgumentTypeError(
            f"{text} is {network.num_addresses:,} addresses; give your own (/32) or your institution's range"
        )
    return str(network)


def security_group(ec2: Any, allowed: str, vpc: str | None) -> str:
    """Id of the group, made or put right: port 22 from `allowed`, and all between its members."""
    if vpc is None:
        found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
        if not found:
            raise SencaError("this region has no default VPC; name one with public subnets: --vpc vpc-...")
        vpc = str(found[0]["VpcId"])
    filters = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "group-name", "Values": [GROUP]}]
    groups = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
    if groups:
        group, rules = str(groups[0]["GroupId"]), groups[0]["IpPermissions"]
        if rules:
            ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=rules)
    else:
        group = str(
            ec2.create_security_group(GroupName=GROUP, Description="senca_ray: ssh only", VpcId=vpc)[
                "GroupId"
            ]
        )
    ec2.authorize_security_group_ingress(
        GroupId=group,
        IpPermissions=[
            {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": allowed}]},
            {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]},
        ],
    )
    return group


def roles(iam: Any, names: dict[str, str]) -> None:
    """Make or put right roles and profiles; `names` replaces REGION, ACCOUNT and BUCKET in the policies."""
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    for role, policies in ROLES.items():
        with suppress(iam.exceptions.EntityAlreadyExistsException):
            document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
            iam.create_role(RoleName=role, AssumeRolePolicyDocument=document)
        for file in policies:
            text = (HERE / file).read_text(encoding="utf-8")
            for placeholder, value in names.items():
                text = text.replace(placeholder, value)
            iam.put_role_policy(RoleName=role, PolicyName=Path(file).stem, PolicyDocument=text)
        with suppress(iam.exceptions.EntityAlreadyExistsException):
            iam.create_instance_profile(InstanceProfileName=role)
        if not iam.get_instance_profile(InstanceProfileName=role)["InstanceProfile"]["Roles"]:
            iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)
    # Makes requests for spot machines possible; an account that has had one has it.
    with suppress(iam.exceptions.InvalidInputException, iam.exceptions.EntityAlreadyExistsException):
        iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com")


def bucket(cluster: ClusterFile) -> str:
    """The bucket of SENCA_STORAGE; raises SencaError where the file has none of one's own."""
    name = (cluster.storage or "").removeprefix("s3://").split("/")[0]
    if not name or name == "EDIT-ME":
        raise SencaError(
            f"{cluster.path}: SENCA_STORAGE={cluster.storage}: put your bucket there first (line 5)"
        )
    return name


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument(
        "file", nargs="?", type=Path, default=HERE.parent / "cluster.yaml", help="cluster file"
    )
    parser.add_argument("--ssh-from", required=True, type=ssh_range, metavar="ADDRESS/BITS")
    parser.add_argument("--vpc", help="network of the machines; default: the region's default VPC")
    given = parser.parse_args()
    import boto3
    import botocore.exceptions

    try:
        cluster = read_cluster_file(given.file)
        if cluster.provider != "aws":
            raise SencaError(f"{given.file}: provider {cluster.provider!r}; this prepares an account of AWS")
        name = bucket(cluster)
        session = boto3.Session(region_name=cluster.region)
        account = session.client("sts").get_caller_identity()["Account"]
        group = security_group(session.client("ec2"), given.ssh_from, given.vpc)
        roles(session.client("iam"), {"REGION": cluster.region, "ACCOUNT": account, "BUCKET": name})
    except (SencaError, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"roles and profiles: {', '.join(ROLES)} (bucket {name})")
    print(f"put this into {given.file}, line 4:  SecurityGroupIds: &ports [{group}]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
