"""What `senca doctor` checks about the storage: its clock against this one, its region, writing to it."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property

import requests

from senca_ray.cloud.doctor import SERVER_TIMES, CannotLook, Check, Verdict, failed, passed, warning
from senca_ray.data.location import delete, read_bytes, write_bytes
from senca_ray.errors import SencaError
from senca_ray.home import STORAGE

_UNEVEN, _REFUSED = 60.0, 300.0
"""Seconds between two clocks that are worth a word, and that signed requests no longer survive.

AWS documents that a request has to arrive within 5 minutes of its own time stamp; S3 in practice refuses
after 15. Source: AWS, Signature Version 4; S3 error RequestTimeTooSkewed.
"""


def storage_checks(address: str | None, region: str) -> list[Check]:
    """Checks of the storage at `address`; `region` is that of the AWS machines that will read it, or ''."""
    if not address:
        storage = Storage("s3://", region)  # the clock is compared even so
        nowhere = f"no {STORAGE}, neither in the cluster file nor in this shell: nothing outlives the cluster"
        missing = warning(nowhere, f"{STORAGE}=s3://BUCKET/FOLDER", "see docs/storage.md")
        clock = [Check("clock", storage.clock)] if region else []
        return [*clock, Check("storage", lambda: missing)]
    storage = Storage(address, region)
    checks = [Check("clock", storage.clock), Check("storage", storage.writable)]
    if region and address.startswith("s3://"):
        checks.insert(1, Check("bucket's region", storage.same_region))
    return checks


class Storage:
    """A storage, asked once without a signature, then written to."""

    def __init__(self, address: str, region: str) -> None:
        self._address, self._region = address.rstrip("/"), region
        scheme, _, rest = address.partition("://")
        self._bucket = rest.partition("/")[0]
        if scheme == "gs":
            given = os.environ.get("CLOUD_STORAGE_EMULATOR_ENDPOINT")
            self._server = given or "https://storage.googleapis.com"
        else:
            given = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
            self._server = given or "https://s3.amazonaws.com"

    @cached_property
    def _answer(self) -> requests.Response:
        url = f"{self._server.rstrip('/')}/{self._bucket}"
        try:
            return requests.head(url, timeout=SERVER_TIMES, allow_redirects=False)
        except (requests.RequestException, ValueError) as error:
            raise CannotLook(f"no answer from {self._server} ({type(error).__name__})") from None

    def clock(self) -> Verdict:
        """How far this machine's clock is from the storage's, whose answer carries the time."""
        now = datetime.now(UTC)
        try:
            there = parsedate_to_datetime(self._answer.headers["Date"])
        except (KeyError, ValueError):
            raise CannotLook(f"{self._server} does not tell its time") from None
        off = (now - there.replace(tzinfo=there.tzinfo or UTC)).total_seconds()
        found = f"this clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} that of {self._server}"
        if abs(off) <= _UNEVEN:
            return passed(found)
        tell = failed if abs(off) > _REFUSED else warning
        return tell(
            found,
            f"{_UNEVEN:.0f} s or less; beyond {_REFUSED:.0f} s clouds refuse what is signed here",
            "sudo timedatectl set-ntp true (macOS: sudo sntp -sS time.apple.com)",
        )

    def same_region(self) -> Verdict:
        """Whether the bucket lies where the machines are."""
        there = self._answer.headers.get("x-amz-bucket-region")
        if not there:
            raise CannotLook(f"{self._server} does not tell the region of {self._bucket}")
        if there != self._region:
            return warning(
                f"the bucket lies in {there}, the machines in {self._region}",
                "one region: traffic between two is slow and charged by the gigabyte",
                f"provider.region: {there} in the cluster file, or a bucket in {self._region}",
            )
        return passed(f"{there}, as the machines")

    def writable(self) -> Verdict:
        """Write, read and remove a small object."""
        try:
            self._answer  # noqa: B018  what does not answer at all is known sooner from this
        except CannotLook as reason:
            return failed(str(reason), "a storage that answers", "check the network and AWS_ENDPOINT_URL")
        name, content = f".senca-doctor-{uuid.uuid4().hex}", b"written by senca doctor\n"
        place = f"{self._address}/{name}"
        try:
            write_bytes(place, content)
            if read_bytes(place) != content:
                return failed(
                    f"{place} reads otherwise than it was written", "the same bytes", f"see {place}"
                )
        except SencaError as error:
            return failed(str(error), f"{self._address} to be written and read", self._fix(str(error)))
        try:
            delete(self._address, [name])
        except SencaError as error:
            return warning(
                f"written and read, not removed: {error}",
                "the right to remove, too: studies replace their files",
                f"allow s3:DeleteObject (GCS: storage.objects.delete) on {self._address}/*",
            )
        return passed(f"{self._address}: written, read and removed")

    def _fix(self, refusal: str) -> str:
        if "no such bucket" in refusal and self._address.startswith("s3://"):
            region = f" --region {self._region}" if self._region else ""
            return f"aws s3 mb s3://{self._bucket}{region}"
        if "no such bucket" in refusal:
            return f"gcloud storage buckets create gs://{self._bucket}"
        return "see 'Access' in docs/storage.md"
