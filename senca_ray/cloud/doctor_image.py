"""What `senca doctor` asks a registry of docker images: whether a tag is there (OCI distribution API, v2)."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import requests

from senca_ray.cloud.doctor import SERVER_TIMES, CannotLook, Check, Verdict, failed, passed

_HUB = "registry-1.docker.io"
_KINDS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


def image_check(image: str) -> Check:
    """The check of one image."""
    return Check(f"docker image {image.rpartition('/')[2]}", lambda: image_there(image))


def image_there(image: str) -> Verdict:
    """Whether its registry has the image, asked without a login."""
    host, repository, tag = _parts(image)
    loopback = host.partition(":")[0] in ("localhost", "127.0.0.1")
    url = f"{'http' if loopback else 'https'}://{host}/v2/{repository}/manifests/{tag}"
    try:
        answer = requests.head(url, headers={"Accept": _KINDS}, timeout=SERVER_TIMES)
        if answer.status_code == 401 and (pass_ := _anonymous(answer.headers.get("WWW-Authenticate", ""))):
            headers = {"Accept": _KINDS, "Authorization": f"Bearer {pass_}"}
            answer = requests.head(url, headers=headers, timeout=SERVER_TIMES)
    except (requests.RequestException, ValueError) as error:
        raise CannotLook(f"no answer from {host} ({type(error).__name__})") from None
    if answer.status_code == 200:
        return passed(f"{host} has it")
    if answer.status_code == 404:
        return failed(
            f"{host} has no {repository}:{tag}",
            "an image that is there",
            f"correct its name; tags of rayproject/ray: https://hub.docker.com/r/{repository}/tags"
            if host == _HUB
            else f"correct its name, or docker push {image}",
        )
    if answer.status_code in (401, 403):
        raise CannotLook(f"{host} shows {repository} to nobody without a login: private, or misspelt")
    raise CannotLook(f"{host} answers with status {answer.status_code}")


def _parts(image: str) -> tuple[str, str, str]:
    """Registry, repository and tag or digest of an image's name, as docker completes it."""
    name, _, digest = image.partition("@")
    head, slash, rest = name.partition("/")
    if not slash or not ("." in head or ":" in head or head == "localhost"):
        head, rest = _HUB, name if slash else f"library/{name}"
    repository, colon, tag = rest.rpartition(":")
    if not colon:
        repository, tag = rest, "latest"
    return head if head != "docker.io" else _HUB, repository, digest or tag


def _anonymous(challenge: str) -> str:
    """A pass for anybody from where the registry's challenge points to; empty where there is none."""
    told = dict(_CHALLENGE.findall(challenge))
    realm = told.pop("realm", "")
    if not challenge.startswith("Bearer") or urlsplit(realm).scheme not in ("https", "http"):
        return ""
    asked = {name: told[name] for name in ("service", "scope") if name in told}
    answer = requests.get(realm, params=asked, timeout=SERVER_TIMES)
    content = answer.json() if answer.ok else {}
    return str(content.get("token") or content.get("access_token") or "")
