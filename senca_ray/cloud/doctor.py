"""What `senca doctor` looks at: checks that all run, and one table of what each of them found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from senca_ray.errors import SencaError

if TYPE_CHECKING:
    from rich.table import Table

CONNECT_SECONDS, ANSWER_SECONDS = 3.0, 8.0
"""How long a check waits for a connection, and then for an answer."""
SERVER_TIMES = (CONNECT_SECONDS, ANSWER_SECONDS)
"""Both, as `requests` takes them."""


class Result(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"
    NOT_CHECKED = "not checked"
    """It could not look; never taken for passed."""


@dataclass(frozen=True)
class Verdict:
    """What a check found; of what is not in order also what was expected and what to do about it."""

    result: Result
    found: str
    """Of a check that could not look: why."""
    expected: str = ""
    fix: str = ""
    """A command where there is one."""


def passed(found: str) -> Verdict:
    """All in order."""
    return Verdict(Result.PASSED, found)


def warning(found: str, expected: str, fix: str) -> Verdict:
    """A study would run, but worse, slower or dearer than it might."""
    return Verdict(Result.WARNING, found, expected, fix)


def failed(found: str, expected: str, fix: str) -> Verdict:
    """A study would not run, or not safely."""
    return Verdict(Result.FAILED, found, expected, fix)


class CannotLook(SencaError):
    """A check could not look; the message says why."""


@dataclass(frozen=True)
class Check:
    """One look at one thing."""

    name: str
    look: Callable[[], Verdict]


Findings = Sequence[tuple[str, Verdict]]
"""Name and verdict of every check, in order."""


def all_checks(cluster_file: Path | None, address: str | None) -> list[Check]:
    """Checks of this machine; of a cluster file, its cloud and storage; and of a running cluster.

    A cluster file that cannot be read is a failed check, and those that need it are left out.
    """
    from senca_ray.cloud.cluster_file import read_cluster_file
    from senca_ray.cloud.doctor_file import file_checks, has_placeholder
    from senca_ray.cloud.doctor_machine import machine_checks
    from senca_ray.cloud.doctor_running import running_checks
    from senca_ray.cloud.doctor_storage import storage_checks
    from senca_ray.home import STORAGE, storage

    running = running_checks(address) if address else []
    checks = machine_checks(for_cluster=bool(cluster_file or address))
    try:
        here = storage()
    except SencaError as error:
        wrong = failed(str(error), "s3://BUCKET/FOLDER or gs://BUCKET/FOLDER", f"export {STORAGE}=s3://...")
        checks.append(Check(STORAGE, lambda: wrong))
        here = None
    alone = storage_checks(here, region="") if here else []
    if cluster_file is None:
        return [*checks, *alone, *running]
    try:
        cluster = read_cluster_file(cluster_file)
    except SencaError as error:
        unread = failed(str(error), "a cluster file as docs/cluster.md describes it", f"edit {cluster_file}")
        return [*checks, Check("cluster file", lambda: unread), *alone, *running]
    checks += file_checks(cluster)
    if cluster.provider == "aws":
        from senca_ray.cloud.doctor_aws import aws_checks

        checks += aws_checks(cluster)
    elif cluster.provider == "gcp":
        from senca_ray.cloud.doctor_gcp import gcp_checks

        checks += gcp_checks(cluster)
    region = cluster.region if cluster.provider == "aws" else ""
    place = cluster.storage or here
    if place and has_placeholder(place):
        return [*checks, Check("storage", _not_named), *running]
    return [*checks, *storage_checks(place, region=region), *running]


def _not_named() -> Verdict:
    raise CannotLook("its address is not filled in: see placeholders")


def run(checks: Sequence[Check], say: Callable[[str], None]) -> Findings:
    """Run every check, whatever the others found; `say` is told the name of the one that begins."""
    findings = []
    for check in checks:
        say(check.name)
        try:
            verdict = check.look()
        except CannotLook as reason:
            verdict = Verdict(Result.NOT_CHECKED, str(reason))
        except Exception as error:  # noqa: BLE001  one that breaks must not hide what the others find
            verdict = Verdict(Result.NOT_CHECKED, f"the check broke off: {in_short(error)}")
        findings.append((check.name, verdict))
    return findings


def in_short(error: BaseException) -> str:
    """An error's kind and message in one line of at most some 200 characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split()):.200}"


def as_table(findings: Findings) -> Table:
    """Every check with its result, what was found and, where that is not in order, what was expected."""
    from senca_ray.screen import add_row, table

    shown = table(["check", "result", "found"], [])
    shown.columns[0].ratio, shown.columns[2].ratio = 2, 5
    shown.columns[1].no_wrap = True
    shown.expand = True
    for name, verdict in findings:
        wanted = f"\nexpected: {verdict.expected}" if verdict.expected else ""
        add_row(shown, name, f" {verdict.result} ", f"{verdict.found}{wanted}")
    return shown


def to_do(findings: Findings) -> list[str]:
    """A line for each fix, those of failed checks first."""
    order = [Result.FAILED, Result.WARNING, Result.NOT_CHECKED]
    wanting = sorted((f for f in findings if f[1].fix), key=lambda finding: order.index(finding[1].result))
    return [f"{name} ({verdict.result}): {verdict.fix}" for name, verdict in wanting]


def summary(findings: Findings) -> str:
    """'12 passed, 1 failed'."""
    results = [verdict.result for _, verdict in findings]
    return ", ".join(f"{results.count(kind)} {kind}" for kind in Result if kind in results)


def any_failed(findings: Findings) -> bool:
    """Whether something has to be mended first."""
    return any(verdict.result is Result.FAILED for _, verdict in findings)
