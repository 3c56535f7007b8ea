"""How an embedding becomes regions and scores: what a comparison has to fix, and to print."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from senca_ray import keys
from senca_ray.errors import ConfigError, Problem, SencaError
from senca_ray.fit.choices import CLUSTERINGS, parse_k_policy
from senca_ray.methods.base import Method

UNDETERMINED = (keys.UNSCORED, keys.DROPPED, keys.SCORED)
"""What may become of `undetermined` spots: see Protocol."""
REFINE_NEIGHBORS = 4
"""Neighbours that vote on a spot's region: those of a square grid."""


@dataclass(frozen=True)
class Protocol:
    """How an embedding becomes regions and scores; the same for every method of a study.

    Raises ConfigError naming every wrong field.
    """

    k_policy: str = "labels"
    """'labels' (oracle: as many regions as labels), 'fixed:N' or 'auto' (chosen without labels)."""
    clustering: str = "ward"
    """Clustering of methods that bring none of their own; with `own` False, of every method."""
    pair: tuple[str, str] | None = None
    """Two labels whose separation is scored."""
    undetermined: str = keys.UNSCORED
    """'unscored': clustered, left out of the score; 'dropped': left out of both; 'scored': a label like any
    other in the score. It never counts in k."""
    refined: bool = False
    """Give a spot the region that most of its neighbours have, where its own has fewer than half of them."""
    own: bool = True
    """Use the clustering that belongs to a method, where one does."""

    def __post_init__(self) -> None:
        problems = []
        clusterings = CLUSTERINGS if self.own else (*CLUSTERINGS, keys.OWN)
        try:
            parse_k_policy(self.k_policy)
        except SencaError as error:
            problems.append(Problem("-", "k", str(error)))
        for field, known in (("clustering", clusterings), ("undetermined", UNDETERMINED)):
            if (found := getattr(self, field)) not in known:
                message = f"{field} {found!r} found; expected one of {', '.join(known)}"
                problems.append(Problem("-", field, message))
        if problems:
            raise ConfigError(problems, "the protocol")

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Protocol:
        """The protocol whose fields are among `values`, as JSON holds them."""
        known = {f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values}
        pair = known.pop("pair", None)
        return cls(**known, pair=tuple(pair) if pair else None)

    def clustering_of(self, method: Method) -> str:
        """The clustering that `method` is run with."""
        return method.clusterings[0] if self.own and method.clusterings else self.clustering

    @property
    def handling(self) -> str:
        """What is done with spots besides clustering, as rows name it: 'unscored', 'dropped+refined'."""
        return f"{self.undetermined}+refined" if self.refined else self.undetermined

    def words(self) -> str:
        """The protocol beside a table of scores, without the k policy."""
        spots = {
            keys.UNSCORED: "all spots clustered; undetermined left out of the score",
            keys.DROPPED: "undetermined left out of clustering and score",
            keys.SCORED: "all spots clustered; undetermined scored as a label of its own",
        }
        return spots[self.undetermined] + ("; regions refined by their neighbours" if self.refined else "")

    def variations(self) -> list[Protocol]:
        """The protocol with one thing changed at a time: refinement, `undetermined` spots, k policy.

        Regions that a method finds by itself (clustering keys.OWN) would need another fit for another k or
        without some spots: of these the other variations alone.
        """
        own = self.clustering == keys.OWN
        found = [dataclasses.replace(self, refined=not self.refined)]
        for handling in UNDETERMINED:
            if handling != self.undetermined and not (own and handling == keys.DROPPED):
                found.append(dataclasses.replace(self, undetermined=handling))
        if not own:
            other = "labels" if self.k_policy == "auto" else "auto"
            found.append(dataclasses.replace(self, k_policy=other))
        return found

    def difference(self, other: Protocol) -> str:
        """What the other one does differently, in words."""
        words = []
        if other.refined != self.refined:
            words.append("refined" if other.refined else "not refined")
        if other.undetermined != self.undetermined:
            words.append(f"undetermined {other.undetermined}")
        if other.k_policy != self.k_policy:
            words.append(f"k policy {other.k_policy}")
        return ", ".join(words)
