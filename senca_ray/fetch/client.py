"""Asking servers: https only, retries, and errors in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from senca_ray.errors import SencaError

if TYPE_CHECKING:
    import requests

_JSON_LIMIT = 32 * 2**20
_PATIENCE = (10, 60)
"""Seconds to wait for a connection, and for the next bytes."""
_PASSING = (429, 500, 502, 503, 504)
"""Answers after which asking again helps."""


class DownloadError(SencaError):
    """A home that does not give what it should; the caller says what can be done by hand."""


class Client:
    """One session with the homes of the cohorts."""

    def __init__(self, mirror: str | None = None, pause: float = 1.0) -> None:
        """Ask `mirror`/HOST/PATH instead of https://HOST/PATH where one is given; raises SencaError.

        `pause` is the unit, in seconds, of the growing pauses between tries. A mirror is https, or http on
        127.0.0.1; anything else would be carried without protection.
        """
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util.retry import Retry

        self.retry = Retry(
            connect=2,
            read=5,
            status=5,
            total=8,
            status_forcelist=_PASSING,
            allowed_methods=("GET",),
            backoff_factor=pause,
            backoff_max=60,
            retry_after_max=60,
            raise_on_status=False,
        )
        self._mirror = mirror.rstrip("/") if mirror else None
        self._session = requests.Session()
        # Without an adapter for http, no redirect can lead there either.
        self._session.adapters.clear()
        self._session.mount("https://", HTTPAdapter(max_retries=self.retry))
        if self._mirror and not self._mirror.startswith("https://"):
            where = urlsplit(self._mirror)
            if where.scheme != "http" or where.hostname != "127.0.0.1":
                raise SencaError(f"mirror {mirror!r} found; expected https://..., or http://127.0.0.1:PORT")
            self._session.mount(f"http://{where.netloc}/", HTTPAdapter(max_retries=self.retry))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    @contextmanager
    def get(self, address: str, headers: Mapping[str, str] | None = None) -> Iterator[requests.Response]:
        """Ask for `address`, its body not read yet; raises DownloadError for all but 200, 206 and 416."""
        import requests

        target = address
        if self._mirror:
            target = f"{self._mirror}/{address.removeprefix('https://')}"
        # Bytes as they are: a checksum is of the file, not of what a server makes of it on the way.
        sent = {"Accept-Encoding": "identity", "User-Agent": "senca-ray"} | dict(headers or {})
        try:
            response = self._session.get(target, headers=sent, stream=True, timeout=_PATIENCE)
        except requests.exceptions.InvalidSchema:
            raise DownloadError(f"{address}: leads to an address without https; expected https") from None
        except requests.RequestException as error:
            raise DownloadError(f"{address}: cannot be reached ({_reason(error)})") from None
        with response:
            if response.status_code not in (200, 206, 416):
                raise DownloadError(f"{address}: {_refusal(response)}")
            yield response

    def json(self, address: str) -> Any:
        """The JSON at `address`; raises DownloadError."""
        from urllib3.exceptions import HTTPError

        with self.get(address) as response:
            try:
                body = response.raw.read(_JSON_LIMIT + 1, decode_content=True)
                if len(body) <= _JSON_LIMIT:
                    return json.loads(body)
            except (HTTPError, ValueError, RecursionError):
                pass
        raise DownloadError(f"{address}: the answer cannot be read as JSON; expected a list of files")


def _reason(error: BaseException) -> str:
    """The innermost cause that a library packed into others."""
    while (cause := next((a for a in error.args if isinstance(a, BaseException)), None)) is not None:
        error = cause
    inner = getattr(error, "reason", None)
    if isinstance(inner, BaseException):
        return _reason(inner)
    return f"{' '.join(str(error).split()):.200}" or type(error).__name__


def _refusal(response: requests.Response) -> str:
    code = response.status_code
    if code == 404:
        return "answers 404, not there (any more)"
    if code == 429 or (code == 403 and response.headers.get("X-RateLimit-Remaining") == "0"):
        return f"answers {code}, too many requests from here; wait an hour"
    if code >= 500:
        return f"answers {code} again and again; try later"
    return f"answers {code}; expected the file"
