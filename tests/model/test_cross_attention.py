import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from senca_ray.model.cross_attention import NeighborhoodCrossAttention, neighborhood_attention

N, E = 5, 3
NEIGHBORHOOD = torch.tensor([[0, 1, 2], [1, 0, 3], [2, 4, 0], [3, 1, 4], [4, 3, 2]])


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def naive_attention(query, key, value, neighborhood, over: str) -> list[list[float]]:  # type: ignore[no-untyped-def]
    """Eqs. 3-4 for the row of each spot itself, number by number."""
    result = []
    for spot, members in enumerate(neighborhood):
        scores = []
        for member in members:
            products = [query[spot][e] * key[member][e] for e in range(len(key[member]))]
            scores.append(sum(products) / math.sqrt(len(products)))
        weights = softmax(scores) if over == "neighbours" else scores
        attended = []
        for dimension in range(len(value[0])):
            parts = [w * value[m][dimension] for w, m in zip(weights, members, strict=True)]
            attended.append(sum(parts))
        result.append(attended if over == "neighbours" else softmax(attended))
    return result


@pytest.mark.parametrize("over", ["neighbours", "product"])
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_neighborhood_attention_against_a_naive_loop(
    over: str, seed: int, n_spots: int, n_neighbors: int, embedding: int, features: int
) -> None:
    rng = np.random.default_rng(seed)
    n_neighbors = min(n_neighbors, n_spots - 1)
    neighborhood = np.array(
        [[i, *rng.permutation(np.delete(np.arange(n_spots), i))[:n_neighbors]] for i in range(n_spots)]
    )
    query, key = rng.normal(size=(2, n_spots, embedding)) * 2
    value = rng.normal(size=(n_spots, features))
    tensors = (torch.tensor(x) for x in (query, key, value, neighborhood))
    found = neighborhood_attention(*tensors, softmax=over)  # type: ignore[arg-type, misc]
    expected = naive_attention(query.tolist(), key.tolist(), value.tolist(), neighborhood.tolist(), over)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("over", ["neighbours", "product"])
def test_module_is_equations_2_to_4(over: str) -> None:
    torch.manual_seed(0)
    module = NeighborhoodCrossAttention(E, over, image=True).double()  # type: ignore[arg-type]
    rna, image = torch.randn(2, N, E, dtype=torch.float64)
    with torch.no_grad():
        found = module(rna, image, NEIGHBORHOOD)
        weight = {name: parameter.numpy() for name, parameter in module.named_parameters()}
    r, h = rna.numpy(), image.numpy()
    r_p = r @ weight["project_rna.weight"].T + weight["project_rna.bias"]
    h_p = h @ weight["project_image.weight"].T + weight["project_image.bias"]
    a1 = naive_attention(
        h_p @ weight["attend_rna.query.weight"].T,
        r_p @ weight["attend_rna.key.weight"].T,
        r @ weight["attend_rna.value.weight"].T,
        NEIGHBORHOOD.tolist(),
        over,
    )
    a2 = naive_attention(
        r_p @ weight["attend_image.query.weight"].T,
        h_p @ weight["attend_image.key.weight"].T,
        h @ weight["attend_image.value.weight"].T,
        NEIGHBORHOOD.tolist(),
        over,
    )
    np.testing.assert_allclose(found.numpy(), np.add(a1, a2), rtol=1e-10)


def test_a_spot_sees_its_neighbourhood_and_nothing_else() -> None:
    torch.manual_seed(1)
    module = NeighborhoodCrossAttention(E, "neighbours", image=True)
    rna, image = torch.randn(2, N, E)
    changed = rna.clone()
    changed[4] += 3
    difference = (module(rna, image, NEIGHBORHOOD) - module(changed, image, NEIGHBORHOOD)).abs().sum(dim=1)
    has_spot_4 = (NEIGHBORHOOD == 4).any(dim=1)
    assert torch.equal(difference > 0, has_spot_4)


def test_without_an_image_queries_keys_and_values_are_rna() -> None:
    torch.manual_seed(2)
    module = NeighborhoodCrossAttention(E, "neighbours", image=False)
    rna = torch.randn(N, E)
    projected, layer = module.project_rna(rna), module.attend_rna
    expected = neighborhood_attention(
        layer.query(projected), layer.key(projected), layer.value(rna), NEIGHBORHOOD, "neighbours"
    )
    torch.testing.assert_close(module(rna, None, NEIGHBORHOOD), expected)
    assert not any("image" in name for name, _ in module.named_parameters())
