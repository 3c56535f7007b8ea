"""Experiments as Ray jobs of a cluster: sent, followed over a connection that may break, listed."""

from __future__ import annotations

import getpass
import logging
import os
import re
import secrets
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import tenacity

from senca_ray.cloud.parcel import Parcel
from senca_ray.cloud.tunnel import Lost, dashboard
from senca_ray.cluster import use_token
from senca_ray.errors import SencaError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

COMMAND = "command"
"""Under what a job's metadata tell what was submitted."""

_CONNECT, _SILENCE = 10.0, 60.0
"""Seconds to connect to the dashboard, seconds without a byte from it."""
_LOOK_EVERY = 1.0
"""Seconds from one look at a log to the next."""
_SHARE = 20
"""A look fetches the whole log: between two there are at least so many times the seconds that one took."""
_PATIENCE = 3600.0
"""Seconds awake without an answer after which a job is followed no longer."""
_SENDING = 120.0
"""Seconds for a cluster to take a job."""
_LONGEST_WAIT = 30.0
"""Seconds between two tries at most."""


T = TypeVar("T")


class Gone(SencaError):
    """The cluster does not know the job."""


class Dashboard:
    """The jobs of a cluster; what can be told of it raises Lost while it does not answer, else SencaError."""

    def __init__(self, route: Callable[[], str]) -> None:
        """`route` gives the URL of the dashboard each time it is asked."""
        self._route = route
        self._client: JobSubmissionClient | None = None

    def submit(self, parcel: Parcel, tell: Callable[[str], object]) -> str:
        """Send the parcel and start it; returns the id of the job. Nothing secret goes with it.

        Tried again for two minutes: a head that has just come up takes no jobs yet. `tell` hears of that.
        """
        now = datetime.now().astimezone()
        job = f"{parcel.name}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        facts = {
            "study": parcel.name,
            COMMAND: shlex.join(parcel.command),
            "user": getpass.getuser(),
            "senca-ray": version("senca-ray"),
        }
        with tempfile.TemporaryDirectory(prefix="senca-submit-") as folder:
            parcel.write(Path(folder))

            def send() -> None:
                with _in_words(job):
                    client = self._connected()
                    try:
                        client.submit_job(
                            entrypoint=parcel.entrypoint(),
                            submission_id=job,
                            runtime_env={"working_dir": folder},
                            metadata=facts,
                        )
                    except RuntimeError as error:
                        # A try of ours came through, and its answer did not.
                        if f"{job} already exists" not in str(error):
                            raise

            _patiently(send, tell, _SENDING)
        return job

    def version(self) -> str:
        """The version of Ray on the cluster."""
        with _in_words("the cluster"):
            return str(self._connected()._server_ray_version)

    def jobs(self) -> list[JobDetails]:
        """Every job that was submitted since the cluster started, the latest first."""
        with _in_words("the cluster"):
            found = [job for job in self._connected().list_jobs() if job.submission_id]
        return sorted(found, key=lambda job: job.start_time or 0, reverse=True)

    def look(self, job: str) -> tuple[JobDetails, str]:
        """How a job is, and its log so far; Gone where it is not known."""
        with _in_words(job):
            client = self._connected()
            # In this order the log of a job that has ended is whole.
            return client.get_job_info(job), client.get_job_logs(job)

    def _connected(self) -> JobSubmissionClient:
        url = self._route()
        if self._client is None or self._client.get_address() != url:
            self._client = _client(url)
        return self._client


@contextmanager
def reached(address: str | None, cluster: Path) -> Iterator[Dashboard]:
    """The cluster whose dashboard is at `address`, else that of a cluster file, for the length of the block.

    Raises SencaError for a wrong address and where Ray finds no running head.
    """
    use_token()
    with dashboard(address, cluster) as route:
        yield Dashboard(route)


def follow(
    cluster: Dashboard, job: str, write: Callable[[str], object], tell: Callable[[str], object]
) -> JobDetails:
    """Hand a job's log to `write` as it grows, until the job ends; returns how it ended.

    Each character is handed on once, however often the connection breaks in between: `tell` hears of that.
    Raises Gone when the job is not known (any more), Lost when there was no answer for an hour.
    """
    seen = 0
    while True:
        started = time.monotonic()
        details, log = _patiently(lambda: cluster.look(job), tell, _PATIENCE)
        # Logs only grow; one that is shorter is that of a machine which cannot be asked just now.
        if len(log) > seen:
            write(log[seen:])
            seen = len(log)
        if details.status.is_terminal():
            return details
        time.sleep(max(_LOOK_EVERY, _SHARE * (time.monotonic() - started)))


def _patiently(ask: Callable[[], T], tell: Callable[[str], object], patience: float) -> T:
    """What `ask` gives, asked again for so many seconds while the cluster is lost."""
    told = False

    def lost(state: tenacity.RetryCallState) -> None:
        nonlocal told
        # The first try again is at once, and mostly all it takes.
        if state.attempt_number == 2:
            tell("connection lost; trying again")
            told = True

    answer = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Lost),
        wait=tenacity.wait_chain(
            tenacity.wait_none(), tenacity.wait_exponential(multiplier=_LOOK_EVERY, max=_LONGEST_WAIT)
        ),
        stop=tenacity.stop_after_delay(patience),
        before_sleep=lost,
        reraise=True,
    )(ask)
    if told:
        tell("connected again")
    return answer


def _client(url: str) -> JobSubmissionClient:
    """A client of the dashboard at `url`, whatever the environment says of other clusters."""
    from ray.job_submission import JobSubmissionClient

    for name in ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging"):
        logging.getLogger(name).setLevel(logging.WARNING)

    class Client(JobSubmissionClient):
        def _do_request(self, *args: Any, **options: Any) -> Any:
            # Ray itself would wait for ever, and show the token to a proxy of the environment.
            options |= {"timeout": (_CONNECT, _SILENCE), "proxies": dict.fromkeys(("http", "https", "all"))}
            return super()._do_request(*args, **options)

    # Ray lets RAY_ADDRESS win over what it is given, and this variable over both.
    before = os.environ.get("RAY_API_SERVER_ADDRESS")
    os.environ["RAY_API_SERVER_ADDRESS"] = url
    try:
        return Client(url)
    finally:
        del os.environ["RAY_API_SERVER_ADDRESS"]
        if before is not None:
            os.environ["RAY_API_SERVER_ADDRESS"] = before


@contextmanager
def _in_words(job: str) -> Iterator[None]:
    """Turn what Ray raises within the block into a SencaError."""
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        found = "a token" if "required" in str(error) else "another token than this machine's"
        raise SencaError(
            f"the cluster wants {found}; copy ~/.ray/auth_token of the machine that ran `ray up` to this one "
            "(or name the file in RAY_AUTH_TOKEN_PATH), and leave RAY_AUTH_TOKEN and RAY_AUTH_MODE unset"
        ) from None
    except OSError as error:  # those of `requests` are such too
        raise Lost(
            f"the cluster's dashboard does not answer ({_short(error)}); bring the cluster up (`ray up`), or "
            "give the URL at which its dashboard is reached"
        ) from None
    except RuntimeError as error:
        status = re.search(r"status code (\d+)", str(error))
        if status and status[1] == "404":
            raise Gone(
                f"{job}: the cluster knows no such job; `senca attach` lists those that it knows"
            ) from None
        if status and status[1].startswith("5"):
            raise Lost(f"the cluster's dashboard does not answer ({_short(error)})") from None
        raise SencaError(f"the cluster refuses: {_short(error)}") from None
    except (KeyError, ValueError) as error:
        raise SencaError(f"what answers there is no dashboard of Ray ({_short(error)})") from None


def _short(error: BaseException) -> str:
    """What an error says at its end, where clusters send whole stack traces."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" .")]
    return f"{lines[-1]:.300}" if lines else type(error).__name__
