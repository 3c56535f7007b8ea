"""W&B in this process: whether and where runs may go, quietly, and nothing about the machine.

Every run is written into the study's folder first and sent from there: what could not be sent is not lost.
"""

from __future__ import annotations

import gc
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from senca_ray.errors import SencaError

PROJECT = "senca-ray"
RUN_FOLDER = "wandb"
"""Folder in a study's folder with its runs; W&B gives it this name."""

_WRITE_SECONDS = 30.0
"""How long W&B's own process may take to begin or to end one run on this disk."""
_NOT_THIS_RUN = ("WANDB_MODE", "WANDB_DISABLED", "WANDB_SILENT", "WANDB_QUIET", "WANDB_RUN_ID")
"""What a user set for runs of their own; it would mute or redirect what is sent."""
_PRIVATE = {
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_X_DISABLE_META": "true",
    "WANDB_X_DISABLE_MACHINE_INFO": "true",
    "WANDB_X_DISABLE_STATS": "true",
}
"""W&B's processes report nothing about the machine, and nothing about themselves."""

_SAID, _SILENT = "Failed to authenticate with", "did not respond in time"
"""How W&B's own errors begin when its server refused, and what they hold when nobody answered."""


class Unsendable(SencaError):
    """Nothing can be sent to W&B now."""


def mode() -> Literal["online", "offline", "disabled"]:
    """The mode that the user set, else online if W&B finds credentials, else offline; never asks."""
    import wandb

    with _quiet() as settings:
        if settings.mode in ("disabled", "offline", "dryrun"):
            return "disabled" if settings.mode == "disabled" else "offline"
        if "WANDB_MODE" in os.environ:
            return "online"
        try:
            return "online" if _credentials(settings) else "offline"
        except (wandb.Error, OSError):
            # There is a key, and something is wrong with it: sending tells what.
            return "online"


def check_account() -> None:
    """Ask W&B whether it knows the user; raises Unsendable with the reason in words.

    Takes as long as WANDB_HTTP_TIMEOUT, 10 seconds where it is not set, when nobody answers.
    """
    with _quiet() as settings:
        host = settings.base_url
        try:
            known = _credentials(settings, verify=True)
        except Exception as error:  # noqa: BLE001  whatever W&B raises becomes a reason
            raise Unsendable(_why(words(error), host)) from None
    if not known:
        raise Unsendable(
            f"no key for W&B is known on this machine; get one at {host}/authorize, then `wandb login` or "
            "WANDB_API_KEY"
        )


def _why(text: str, host: str) -> str:
    if _SILENT in text:
        return f"W&B cannot be reached (no answer from {host})"
    if text.startswith(_SAID):
        said = text.removeprefix(f"{_SAID} {host}:").strip()
        return (
            f"W&B does not accept the key ({said}); if it has expired, get one at {host}/authorize, then "
            "`wandb login --relogin` or WANDB_API_KEY"
        )
    # Of a key that is none W&B says what is wrong with it.
    return f"W&B cannot be reached ({text})" if host in text else text


def _credentials(settings: Any, verify: bool = False) -> Any:
    from wandb.sdk.lib import wbauth

    return wbauth.authenticate_session(
        host=settings.base_url, source="senca", prompt=False, update_session=False, verify=verify
    )


@contextmanager
def _quiet() -> Iterator[Any]:
    """W&B's settings of this process, told to print nothing; forgotten afterwards, with its helper process.

    What W&B remembers of the environment must not outlive one study.
    """
    import wandb

    before = {name: os.environ.get(name) for name in _PRIVATE}
    os.environ.update(_PRIVATE)
    try:
        yield wandb.setup(wandb.Settings(silent=True)).settings
    finally:
        wandb.teardown()
        _restore(before)


@contextmanager
def writing(study_dir: Path) -> Iterator[None]:
    """A block in which `offline_run` writes runs, all by the one helper process of W&B."""
    # Files that wait for their upload lie with the runs, unless the user named another place.
    before = {"WANDB_DATA_DIR": os.environ.get("WANDB_DATA_DIR")}
    os.environ.setdefault("WANDB_DATA_DIR", str(study_dir.resolve() / RUN_FOLDER))
    try:
        with _quiet(), warnings.catch_warnings():
            # W&B leaves the folders in which it made tables to the garbage collector, which would complain.
            warnings.simplefilter("ignore", ResourceWarning)
            try:
                yield
            finally:
                gc.collect()
    finally:
        _restore(before)


def _restore(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def offline_run(study_dir: Path, **told: Any) -> Iterator[Any]:
    """One run, written into the study's folder; `told` as `wandb.init` takes it. Raises SencaError."""
    import wandb

    with wandb.init(project=PROJECT, dir=str(study_dir), mode="offline", settings=_settings(), **told) as run:
        # W&B goes elsewhere where it may not write, and tells nobody.
        if not Path(run.settings.sync_dir).resolve().is_relative_to(study_dir.resolve()):
            raise SencaError(
                f"{study_dir / RUN_FOLDER}: cannot be written; free space or allow writing there"
            )
        yield run


def _settings() -> Any:
    import wandb

    return wandb.Settings(
        init_timeout=_WRITE_SECONDS,
        finish_timeout=_WRITE_SECONDS,
        finish_timeout_raises=True,
        silent=True,
        console="off",
        use_dot_wandb=False,
        # Nothing about the machine or the code on it leaves it.
        host="",
        disable_git=True,
        save_code=False,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
        # The versions that matter are in the config; listing all packages takes longer than all the rest.
        x_save_requirements=False,
    )


def sending_environment(study_dir: Path) -> dict[str, str]:
    """Environment of a process of W&B that sends runs of this study."""
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_THIS_RUN}
    return kept | _PRIVATE | {"WANDB_DIR": str(study_dir.resolve())}


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with None for every missing value, which W&B tables take in any column."""
    return frame.astype(object).where(frame.notna(), None)


def slug(text: str) -> str:
    """Text as W&B allows it in names: letters, digits, -, _ and ."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-")


def words(error: BaseException) -> str:
    """An error's message in one line, else its kind."""
    return " ".join(str(error).split()) or type(error).__name__
