"""What `senca doctor` asks AWS about how machines start: image, instance profile, open ports, a dry run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from senca_ray.cloud.cluster_file import NodeType
from senca_ray.cloud.doctor import CannotLook, Check, Verdict, failed, in_short, passed, warning
from senca_ray.cloud.doctor_aws import DENIED, asking, code_of

if TYPE_CHECKING:
    from senca_ray.cloud.doctor_aws import Aws

_ANYWHERE = ("0.0.0.0/0", "::/0")
_SSH = 22
_PARAMETER = "resolve:ssm:"
"""Before the name of a parameter of AWS that holds an image's id."""
_SPOT_ROLE = "AWSServiceRoleForEC2Spot"
_PREPARE = "python deploy/aws_account.py --ssh-from YOUR.ADDRESS/32"


def launch_checks(aws: Aws) -> list[Check]:
    """Checks of what machines are started with."""
    checks = [
        Check("machine image", lambda: images(aws)),
        Check("instance profile", lambda: profiles(aws)),
        Check("open ports", lambda: ports(aws)),
        Check("permission to start", lambda: permission(aws)),
    ]
    if any(node.spot for node in aws.types):
        checks.append(Check("spot role", lambda: spot_role(aws)))
    return checks


def images(aws: Aws) -> Verdict:
    """Whether the machine images (AMI) are there and usable."""
    region = aws.cluster.region
    named = {node.name: _image(aws, node) for node in aws.types}
    if without := [name for name, image in named.items() if not image]:
        return failed(
            f"no ImageId for {', '.join(without)}, and Ray has none for {region}",
            "an ImageId that is there",
            f"ImageId under node_config in {aws.cluster.path}",
        )
    ec2 = aws.client("ec2")
    words = []
    for image in dict.fromkeys(named.values()):
        with asking("ec2:DescribeImages"):
            # By a filter: asked by its name AWS answers with an error of several spellings.
            found = ec2.describe_images(Filters=[{"Name": "image-id", "Values": [image]}])["Images"]
        if not found or found[0].get("State", "available") != "available":
            return failed(
                f"{image} is not in {region}, or not shown to this account",
                "an image of that region: each region has its own",
                f"{_PARAMETER}/aws/service/deeplearning/... as ImageId in {aws.cluster.path}; names: aws ssm "
                f"get-parameters-by-path --region {region} --recursive --path /aws/service/deeplearning/ami",
            )
        words.append(f"{image} ({found[0].get('Name', 'no name')})")
    return passed(", ".join(words))


def _image(aws: Aws, node: NodeType) -> str:
    """The image that a machine will start with; empty where there is none."""
    from ray.autoscaler._private.aws.config import DEFAULT_AMI

    given = str(node.config.get("ImageId", ""))
    if given.lower() in ("", "latest_dlami"):
        return str(DEFAULT_AMI.get(aws.cluster.region, ""))
    if not given.startswith(_PARAMETER):
        return given
    ssm = aws.client("ssm")
    with asking("ssm:GetParameters"):  # in the plural, as AWS itself asks when the machine starts
        found = ssm.get_parameters(Names=[given.removeprefix(_PARAMETER)])["Parameters"]
    return str(found[0]["Value"]) if found else ""


def profiles(aws: Aws) -> Verdict:
    """Whether the instance profiles are there, which give machines their rights without keys."""
    from botocore.exceptions import ClientError

    named = {node.name: _profile(node) for node in aws.types}
    if without := [name for name, profile in named.items() if not profile]:
        return warning(
            f"none for {', '.join(without)}: Ray gives a head without one full rights to EC2 and S3, and a "
            "worker none",
            "a profile with the rights that are needed and no others",
            f"{_PREPARE}, then IamInstanceProfile under node_config in {aws.cluster.path}",
        )
    iam = aws.client("iam")
    for profile in dict.fromkeys(named.values()):
        with asking("iam:GetInstanceProfile"):
            try:
                found = iam.get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]
            except ClientError as error:
                if code_of(error) != "NoSuchEntity":
                    raise
                return failed(f"no instance profile {profile}", "one that is there", _PREPARE)
        if not found["Roles"]:
            return failed(f"{profile} holds no role: machines would have no rights", "a role in it", _PREPARE)
    return passed(", ".join(dict.fromkeys(named.values())))


def _profile(node: NodeType) -> str:
    """Name of a node type's instance profile; empty where it has none."""
    given = node.config.get("IamInstanceProfile") or {}
    return str(given.get("Name") or str(given.get("Arn", "")).rpartition("/")[2])


def ports(aws: Aws) -> Verdict:
    """Whether the world can reach the machines, as far as the file and AWS tell.

    In a security group that it makes itself Ray opens ssh to the world, whatever the file says; one that has
    rules it leaves alone.
    """
    cluster = aws.cluster
    own = (cluster.raw.get("provider") or {}).get("security_group") or {}
    name = str(own.get("GroupName") or f"ray-autoscaler-{cluster.name}")
    ids = sorted({str(i) for node in aws.types for i in node.config.get("SecurityGroupIds") or []})
    asked = {"Name": "group-id", "Values": ids} if ids else {"Name": "group-name", "Values": [name]}
    ec2 = aws.client("ec2")
    with asking("ec2:DescribeSecurityGroups"):
        groups = ec2.describe_security_groups(Filters=[asked])["SecurityGroups"]
    there = [str(group["GroupId"]) for group in groups]
    if absent := sorted(set(ids) - set(there)):
        return failed(
            f"not in {cluster.region}: {', '.join(absent)}",
            "security groups that are there",
            f"{_PREPARE}, then SecurityGroupIds in {cluster.path}",
        )
    rules = [rule for group in groups for rule in group["IpPermissions"]]
    if not rules and not ids:
        rules = [{"FromPort": _SSH, "ToPort": _SSH, "IpRanges": [{"CidrIp": _ANYWHERE[0]}]}]
        rules += own.get("IpPermissions") or []
    wide = [rule for rule in rules if _open(rule)]
    where = ", ".join(there) or f"the group that Ray will make ({name})"
    if not wide:
        return passed(f"{where}: nothing open to the world")
    tell = warning if all(_span(rule) == f"port {_SSH}" for rule in wide) else failed
    return tell(
        f"{where}: open to the world: {', '.join(map(_span, wide))}",
        f"port {_SSH} from your address alone",
        f"{_PREPARE}, then SecurityGroupIds in {cluster.path}",
    )


def _open(rule: Mapping[str, Any]) -> bool:
    """Whether a rule of a security group lets everybody in."""
    four = (part.get("CidrIp") for part in rule.get("IpRanges") or [])
    six = (part.get("CidrIpv6") for part in rule.get("Ipv6Ranges") or [])
    return any(place in _ANYWHERE for place in (*four, *six))


def _span(rule: Mapping[str, Any]) -> str:
    """'port 22', 'ports 6379-6380', 'all ports'."""
    low, high = rule.get("FromPort", -1), rule.get("ToPort", -1)
    if low == -1:
        return "all ports"
    return f"port {low}" if low == high else f"ports {low}-{high}"


def permission(aws: Aws) -> Verdict:
    """Whether AWS would let this account start the head: a dry run, which starts nothing.

    Workers are started by the head in its own role, in which nothing can be tried from here.
    """
    from botocore.exceptions import ClientError

    head = aws.cluster.head
    kept = ("InstanceMarketOptions", "IamInstanceProfile", "SecurityGroupIds")
    told = {name: head.config[name] for name in kept if name in head.config}
    if not head.instance or not (image := _image(aws, head)):
        raise CannotLook("the head has no InstanceType or no image: see machine image")
    ec2 = aws.client("ec2")
    with asking("ec2:RunInstances"):
        try:
            ec2.run_instances(
                DryRun=True, MinCount=1, MaxCount=1, ImageId=image, InstanceType=head.instance, **told
            )
        except ClientError as error:
            if code_of(error) == "DryRunOperation":
                return passed("dry run: this account may start the head; workers start in the head's role")
            if code_of(error) in DENIED:
                return failed(
                    f"AWS would not let this account start the head ({in_short(error)})",
                    "ec2:RunInstances, and iam:PassRole for the head's role",
                    "ask whoever runs the account for the rights in docs/cluster.md",
                )
            raise
    raise CannotLook("the server knows no dry runs: look whether it has started a machine")


def spot_role(aws: Aws) -> Verdict:
    """Whether the account has the role in which AWS itself starts spot machines; the head may not make it."""
    from botocore.exceptions import ClientError

    iam = aws.client("iam")
    with asking("iam:GetRole"):
        try:
            iam.get_role(RoleName=_SPOT_ROLE)
        except ClientError as error:
            if code_of(error) != "NoSuchEntity":
                raise
            return failed(
                f"no {_SPOT_ROLE}: nobody has used spot in this account",
                "the role, without which a head with few rights gets no spot machine",
                "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
            )
    return passed(_SPOT_ROLE)
