"""What `senca doctor` checks on Google Cloud: credentials and what `ray up` needs; no quotas, no images."""

from __future__ import annotations

import importlib.util
import warnings

from senca_ray.cloud.cluster_file import ClusterFile
from senca_ray.cloud.doctor import CannotLook, Check, Verdict, failed, in_short, passed


def gcp_checks(cluster: ClusterFile) -> list[Check]:
    """Checks of a cluster file for GCP; the storage is checked with the others."""
    return [
        Check("Google's client", client),
        Check("Google credentials", credentials),
        Check("quotas, machines, images", lambda: beyond(cluster)),
    ]


def client() -> Verdict:
    """Whether the client library is here that `ray up` starts machines with."""
    if importlib.util.find_spec("googleapiclient") is None:
        return failed(
            "google-api-python-client is not installed",
            "it: `ray up` uses it",
            "pip install google-api-python-client",
        )
    return passed("installed")


def credentials() -> Verdict:
    """Whether application default credentials are here; that Google takes them is not tried."""
    try:
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError
    except ImportError:
        raise CannotLook("google-auth is not installed: pip install google-api-python-client") from None
    try:
        with warnings.catch_warnings():
            # It warns of credentials of a person, which is what a laptop has.
            warnings.simplefilter("ignore")
            found, project = google.auth.default()
    except DefaultCredentialsError as error:
        return failed(
            in_short(error),
            "application default credentials on this machine",
            "gcloud auth application-default login",
        )
    return passed(f"{type(found).__name__}, project {project or 'not set'}; not tried")


def beyond(cluster: ClusterFile) -> Verdict:
    """What is not looked at, and where to look."""
    raise CannotLook(
        f"only done on AWS; look yourself: gcloud compute regions describe {cluster.region or 'REGION'} "
        "(quotas), gcloud compute accelerator-types list, gcloud compute images describe"
    )
