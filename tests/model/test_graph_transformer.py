import pytest
import torch
from torch.nn import functional

from senca_ray.model.graph_transformer import (
    Blocks,
    GraphTransformer,
    dropout_masks,
    neighborhood_mean,
    self_attention,
)


def ring(n_spots: int) -> torch.Tensor:
    """Every spot with the one before and the one after it: (N, 3)."""
    spots = torch.arange(n_spots)
    return torch.stack([spots, (spots - 1) % n_spots, (spots + 1) % n_spots], dim=1)


def test_neighborhood_mean_is_the_product_with_the_row_normalised_adjacency() -> None:
    values = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    adjacency = torch.zeros(6, 6).scatter(1, ring(6), 1.0)
    expected = (adjacency / adjacency.sum(dim=1, keepdim=True)) @ values
    torch.testing.assert_close(neighborhood_mean(values, ring(6)), expected)


@pytest.mark.parametrize(("embedding", "heads"), [(8, 4), (6, 1)])
def test_self_attention_against_a_loop_over_heads_and_spots(embedding: int, heads: int) -> None:
    generator = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(5, embedding, generator=generator) for _ in range(3))
    width = embedding // heads
    expected = torch.zeros(5, embedding)
    for head in range(heads):
        columns = slice(head * width, (head + 1) * width)
        for spot in range(5):
            scores = torch.stack([query[spot, columns] @ key[other, columns] for other in range(5)])
            weights = torch.softmax(scores / width**0.5, dim=0)
            expected[spot, columns] = sum(weights[other] * value[other, columns] for other in range(5))
    torch.testing.assert_close(self_attention(query, key, value), expected)


def test_the_residual_bypasses_the_whole_block() -> None:
    torch.manual_seed(2)
    network = GraphTransformer(genes=7, embedding=8, hidden=12)
    expression = torch.rand(6, 7)
    before = network(expression, ring(6))
    last = network.feed_forward[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
    bypass = functional.elu(neighborhood_mean(network.embed(expression), ring(6)))
    torch.testing.assert_close(network(expression, ring(6)), bypass)
    assert not torch.allclose(before, bypass)


def test_masked_expression_has_no_influence() -> None:
    torch.manual_seed(3)
    network = GraphTransformer(genes=7, embedding=8, hidden=12)
    expression, mask = torch.rand(6, 7), torch.ones(6, 7)
    mask[2, 4] = 0
    changed = expression.clone()
    changed[2, 4] += 5
    torch.testing.assert_close(network(expression, ring(6), mask), network(changed, ring(6), mask))
    assert not torch.allclose(network(expression, ring(6)), network(changed, ring(6)))


def test_dropout_masks_keep_the_mean_and_read_only_their_generators() -> None:
    def masks(*seeds: int) -> torch.Tensor:
        return dropout_masks((400, 50), 0.2, [torch.Generator().manual_seed(seed) for seed in seeds])

    torch.manual_seed(4)
    first, second = masks(9, 8)
    torch.manual_seed(5)
    assert torch.equal(masks(9)[0], first) and torch.equal(masks(8)[0], second)
    assert not torch.equal(first, second)
    assert set(first.unique().tolist()) == {0.0, 1.25}
    assert first.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(dropout_masks((3, 2), 0.0, [torch.Generator()]), torch.ones(1, 3, 2))


def test_blocks_of_one_spot_are_the_exact_attention() -> None:
    query, key, value = torch.randn(3, 12, 8, generator=torch.Generator().manual_seed(0))
    blocks = Blocks(torch.arange(12).flip(0), torch.ones(12))
    torch.testing.assert_close(self_attention(query, key, value, blocks), self_attention(query, key, value))


def test_a_block_weighs_as_much_as_its_spots() -> None:
    generator = torch.Generator().manual_seed(0)
    block = torch.tensor([0, 1, 1, 2, 2, 2, 2])
    query = torch.randn(7, 8, generator=generator)
    key, value = torch.randn(2, 3, 8, generator=generator)
    blocks = Blocks(block, torch.bincount(block).float())
    # Where the spots of a block are alike nothing is lost.
    found = self_attention(query, key[block], value[block], blocks)
    torch.testing.assert_close(found, self_attention(query, key[block], value[block]))
