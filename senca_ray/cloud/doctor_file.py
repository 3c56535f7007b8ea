"""What `senca doctor` checks in a cluster file, without asking anybody: Ray's schema and what that misses."""

from __future__ import annotations

import contextlib
import copy
import io
import re
import sys
import tomllib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from senca_ray.cloud.cluster_file import PRICE, ClusterFile, texts
from senca_ray.cloud.doctor import CannotLook, Check, Verdict, failed, in_short, passed, warning
from senca_ray.cloud.doctor_image import image_check
from senca_ray.cloud.doctor_machine import PACKAGE
from senca_ray.cloud.doctor_running import compare_python
from senca_ray.cluster import TOKEN_FILE

_PLACEHOLDER = re.compile(
    r"<[A-Za-z][\w .-]*>"
    # Words in capitals that stand for something, but not $BUCKET nor AWS_REGION.
    r"|(?<![$\w{])(?:BUCKET|ACCOUNT|PROJECT|REGION|USER|YOUR[-_\w]*|MY[-_]\w+|(?:CHANGE|EDIT|REPLACE)[-_]?ME)\b"
    r"|\b(?:my|your|example)-(?:bucket|project|lab|account|registry)\b"
    # Addresses and accounts that documentation uses: they are nobody's.
    r"|\b(?:192\.0\.2|198\.51\.100|203\.0\.113)\.\d+|\bami-0{8,}\w*|\b123456789012\b"
)
_RAY = re.compile(
    r"rayproject/ray[\w-]*:(\d+\.\d+\.\d+)|-ray(\d+\.\d+\.\d+)|(?<![-\w])ray(?:\[[^\]]*\])?==([\d.]*\d)"
)
_PYTHON = re.compile(r"-py(3)(\d{1,2})\b")
_OURS = re.compile(r"\bsenca[-_]ray(?:\[[^\]]*\])?(?:==|-)(\d+(?:\.\d+)+)")


def file_checks(cluster: ClusterFile) -> list[Check]:
    """Checks of a cluster file that could be read."""
    checks = [
        Check("cluster file", lambda: schema(cluster)),
        Check("placeholders", lambda: placeholders(cluster)),
        Check("prices", lambda: prices(cluster)),
        Check("files to send", lambda: mounts(cluster)),
        Check("Ray's version", lambda: ray_version(cluster)),
        Check("Python's version", lambda: python_version(cluster)),
        Check("this package's version", lambda: package_version(cluster)),
    ]
    return checks + [image_check(image) for image in images(cluster)]


def images(cluster: ClusterFile) -> list[str]:
    """The docker images that the file names, each once."""
    docker = cluster.raw.get("docker")
    given = docker.values() if isinstance(docker, Mapping) else ()
    named = [value for name, value in zip(docker or (), given, strict=True) if str(name).endswith("image")]
    for node in (cluster.raw.get("available_node_types") or {}).values():
        inner = node.get("docker") if isinstance(node, Mapping) else None
        named += (
            [v for n, v in inner.items() if str(n).endswith("image")] if isinstance(inner, Mapping) else []
        )
    return list(dict.fromkeys(str(value) for value in named if value))


def schema(cluster: ClusterFile) -> Verdict:
    """Ray's own check of the file, and numbers of workers that it lets pass."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    problems = []
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # Ray prints what it thinks of mounts
            validate_config(prepare_config(copy.deepcopy(dict(cluster.raw))))
    except Exception as error:  # noqa: BLE001  Ray raises whatever its parts raise
        text = getattr(error, "message", None)  # of the schema check; the rest repeats the whole file
        problems.append(f"Ray: {text:.300}" if isinstance(text, str) else f"Ray: {in_short(error)}")
    for name, node in (cluster.raw.get("available_node_types") or {}).items():
        least = node.get("min_workers", 0) if isinstance(node, Mapping) else 0
        most = next(n.max_workers for n in (cluster.head, *cluster.workers) if n.name == str(name))
        if not isinstance(least, int) or least < 0:
            problems.append(f"available_node_types.{name}.min_workers is {least!r}")
        elif least > most and str(name) != cluster.head.name:
            problems.append(f"available_node_types.{name}: min_workers {least} above max_workers {most}")
    if not any(node.max_workers for node in cluster.workers) or not cluster.max_workers:
        problems.append("no worker may ever start: max_workers is 0")
    if problems:
        return failed("; ".join(problems), "a file that Ray takes", f"edit {cluster.path}")
    workers = ", ".join(node.name for node in cluster.workers)
    return passed(f"Ray takes it: at most {cluster.max_workers} of {workers}")


def has_placeholder(text: str) -> bool:
    """Whether something in a text still waits to be replaced."""
    return bool(_PLACEHOLDER.search(text))


def placeholders(cluster: ClusterFile) -> Verdict:
    """Whether something in the file still waits to be replaced."""
    left: dict[str, str] = {}
    for place, text in texts(cluster.raw):
        for found in re.finditer(rf"\S*?(?:{_PLACEHOLDER.pattern})\S*", text):
            left.setdefault(found.group(), place)
    if left:
        told = "; ".join(f"{word} in {place}" for word, place in left.items())
        return failed(told, "your own values", f"edit {cluster.path}")
    return passed("none left")


def prices(cluster: ClusterFile) -> Verdict:
    """Whether `senca plan` can tell what the cluster costs."""
    nodes = [node for node in (cluster.head, *cluster.workers) if node.instance]
    if unpriced := [node.name for node in nodes if node.price is None]:
        return warning(
            f"no price: {', '.join(unpriced)}",
            "US dollars an hour of every kind of machine, for `senca plan`",
            f"labels: {{{PRICE}: '0.53'}} under the node type in {cluster.path}",
        )
    return passed(", ".join(f"{node.name} ${node.price:g}/h" for node in nodes) or "machines of your own")


def mounts(cluster: ClusterFile) -> Verdict:
    """Whether what `ray up` sends is there, the token among it."""
    sources = {str(to): str(source) for to, source in (cluster.raw.get("file_mounts") or {}).items()}
    token = str(TOKEN_FILE.expanduser())
    there = {to: Path(source).expanduser() for to, source in sources.items()}
    missing = [f"{to}: {sources[to]}" for to, p in there.items() if str(p) != token and not p.exists()]
    if missing:
        return failed(
            f"not here: {'; '.join(missing)}",
            "files and folders of this machine, seen from the folder in which `ray up` runs",
            f"correct file_mounts in {cluster.path}, or run from the folder they are relative to",
        )
    if not any(str(path) == token for path in there.values()):
        return warning(
            f"file_mounts send no {TOKEN_FILE}",
            "one token on all machines: without it whoever reaches a port runs code there",
            f"~/.ray/auth_token: ~/.ray/auth_token under file_mounts in {cluster.path}",
        )
    return passed(f"{len(there)} there, the token among them")


def ray_version(cluster: ClusterFile) -> Verdict:
    """Whether the machines will run the Ray of this one."""
    here = metadata.version("ray")
    there = _named(cluster, _RAY)
    if not there:
        raise CannotLook("neither an image nor a command in the file names a version of Ray")
    if there != {here}:
        return failed(
            f"ray {', '.join(sorted(there))} in the cluster file, ray {here} here",
            "the same",
            f"rayproject/ray:{here}-py{sys.version_info[0]}{sys.version_info[1]}-... in {cluster.path}, or "
            f"{sys.executable} -m pip install ray=={sorted(there)[-1]}",
        )
    return passed(f"ray {here}, as here")


def python_version(cluster: ClusterFile) -> Verdict:
    """Whether the machines' Python is that of this one."""
    there = {".".join(found.groups()) for _, text in texts(cluster.raw) for found in _PYTHON.finditer(text)}
    if not there:
        raise CannotLook("no image in the file names a version of Python")
    verdicts = [compare_python(version, "the cluster file") for version in sorted(there)]
    return next((verdict for verdict in verdicts if verdict.fix), verdicts[0])


def package_version(cluster: ClusterFile) -> Verdict:
    """Whether the machines get the version of this package that runs here."""
    here = metadata.version(PACKAGE)
    there = _named(cluster, _OURS)
    for source in (cluster.raw.get("file_mounts") or {}).values():
        there |= _version_in(Path(str(source)).expanduser())
    if not there:
        raise CannotLook(f"the file neither installs {PACKAGE}==VERSION nor sends its source")
    if there != {here}:
        return failed(
            f"{PACKAGE} {', '.join(sorted(there))} for the cluster, {here} here",
            "the same: studies are resumed and pulled here",
            f"{PACKAGE}=={here} in {cluster.path}, or {sys.executable} -m pip install "
            f"{PACKAGE}=={sorted(there)[-1]}",
        )
    return passed(f"{here}, as here")


def _version_in(source: Path) -> set[str]:
    """Version of this package whose folder or pyproject.toml a source is; none of another one."""
    file = source if source.name == "pyproject.toml" else source / "pyproject.toml"
    try:
        project: Any = tomllib.loads(file.read_text(encoding="utf-8")).get("project")
    except (OSError, ValueError):
        return set()
    return {str(project.get("version"))} if project and project.get("name") == PACKAGE else set()


def _named(cluster: ClusterFile, sign: re.Pattern[str]) -> set[str]:
    """Every version that the file names so."""
    found = (match for _, text in texts(cluster.raw) for match in sign.finditer(text))
    return {next(group for group in match.groups() if group) for match in found}
