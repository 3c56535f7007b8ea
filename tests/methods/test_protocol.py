"""What a comparison fixes: how an embedding becomes regions and scores."""

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senca_ray import keys
from senca_ray.errors import ProblemsError
from senca_ray.fit.choices import CLUSTERINGS
from senca_ray.methods import METHODS
from senca_ray.methods.protocol import UNDETERMINED, Protocol

PROTOCOLS = st.builds(
    Protocol,
    k_policy=st.sampled_from(("labels", "auto", "fixed:1", "fixed:12")),
    clustering=st.sampled_from(CLUSTERINGS),
    pair=st.none() | st.just(("invasive cancer", "cancer in situ")),
    undetermined=st.sampled_from(UNDETERMINED),
    refined=st.booleans(),
    own=st.booleans(),
)


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(ProblemsError) as caught:
        Protocol("many", "louvain", undetermined="forgotten")
    found = {p.place: p.message for p in caught.value.problems}
    assert found.keys() == {"k", "clustering", "undetermined"}
    assert "fixed:N" in found["k"]
    assert all(name in found["clustering"] for name in ("louvain", *CLUSTERINGS))
    assert all(name in found["undetermined"] for name in ("forgotten", *UNDETERMINED))


def test_a_method_s_own_regions_are_no_clustering_of_a_study() -> None:
    """They can be asked of one method, not of all."""
    with pytest.raises(ProblemsError, match="clustering 'own' found"):
        Protocol(clustering=keys.OWN)
    assert Protocol(clustering=keys.OWN, own=False).clustering_of(METHODS["coordinates"]) == keys.OWN


@given(PROTOCOLS)
def test_a_protocol_comes_back_from_json_whatever_stands_beside_it(protocol: Protocol) -> None:
    stored = json.loads(json.dumps(asdict(protocol) | {"seeds": [0, 1], "name": "x"}))
    assert Protocol.read(stored) == protocol


def test_what_a_description_lacks_is_as_usual() -> None:
    assert Protocol.read({"k_policy": "auto", "clustering": "kmeans"}) == Protocol("auto", "kmeans")


def test_a_method_is_clustered_its_own_way_unless_the_protocol_says_otherwise() -> None:
    assert METHODS["coordinates"].clusterings[0] == "kmeans" and not METHODS["senca"].clusterings
    assert Protocol().clustering_of(METHODS["coordinates"]) == "kmeans"
    assert Protocol(own=False).clustering_of(METHODS["coordinates"]) == "ward"
    assert Protocol(clustering="average").clustering_of(METHODS["senca"]) == "average"


def test_rows_name_what_is_done_with_spots() -> None:
    found = {Protocol(undetermined=u, refined=r).handling for u in UNDETERMINED for r in (False, True)}
    assert found == {
        *("unscored", "dropped", "scored"),
        *("unscored+refined", "dropped+refined", "scored+refined"),
    }


@given(PROTOCOLS)
def test_variations_change_one_thing_each_and_say_which(protocol: Protocol) -> None:
    varied = protocol.variations()
    assert protocol not in varied
    keyed = [(v.k_policy, v.handling) for v in (protocol, *varied)]
    assert len(set(keyed)) == len(keyed) == 5, "refinement, two other handlings, one other k policy"
    words = [protocol.difference(v) for v in varied]
    assert all(words) and len(set(words)) == len(words) and not any("," in text for text in words)
    for other in varied:
        changed = [name for name, value in asdict(protocol).items() if asdict(other)[name] != value]
        assert len(changed) == 1 and changed[0] in ("refined", "undetermined", "k_policy")
        assert other.variations() != varied


@pytest.mark.parametrize(("k", "other"), [("labels", "auto"), ("fixed:4", "auto"), ("auto", "labels")])
def test_the_k_policy_is_varied_between_the_answer_and_a_choice_without_labels(k: str, other: str) -> None:
    assert other in {v.k_policy for v in Protocol(k).variations()}


@given(PROTOCOLS.filter(lambda p: p.undetermined != keys.DROPPED))
def test_regions_that_a_method_finds_itself_are_not_read_in_ways_that_need_another_fit(
    protocol: Protocol,
) -> None:
    own = replace(protocol, clustering=keys.OWN, own=False)
    varied = own.variations()
    assert {v.k_policy for v in varied} == {own.k_policy}
    assert keys.DROPPED not in {v.undetermined for v in varied}
    assert len(varied) == 2


def test_differences_in_words() -> None:
    plain, other = Protocol(), Protocol("auto", undetermined=keys.DROPPED, refined=True)
    assert plain.difference(plain) == ""
    assert plain.difference(other) == "refined, undetermined dropped, k policy auto"
    assert other.difference(plain) == "not refined, undetermined unscored, k policy labels"


def test_a_table_s_heading_tells_readings_apart() -> None:
    words = {Protocol(undetermined=u, refined=r).words() for u in UNDETERMINED for r in (False, True)}
    assert len(words) == 6 and all("undetermined" in text for text in words)
