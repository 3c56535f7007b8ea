import dataclasses
import hashlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors
from torch.utils._python_dispatch import TorchDispatchMode

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.fit import train as training
from senca_ray.fit.initial import initialise, initialise_batch
from senca_ray.fit.section import section_tensors
from senca_ray.fit.train import train, train_batch, untrained
from senca_ray.model import cross_attention, graph_transformer
from senca_ray.model import losses as losses_module
from senca_ray.model.losses import loss_terms
from senca_ray.model.senca import SectionTensors

SETTING = Setting(hvgs=60, neighbors=4, embedding=32, hidden=32, bottleneck=16)


def toy_sample(image: bool = True) -> Sample:
    """Three vertical bands of 12 x 10 spots that differ in expression and in image features."""
    rng = np.random.default_rng(0)
    xy = np.stack(np.meshgrid(np.arange(12.0), np.arange(10.0)), axis=-1).reshape(-1, 2)
    band = (xy[:, 0] // 4).astype(int)
    rates = np.exp(rng.normal(0, 1, 60) + rng.normal(0, 0.7, (3, 60))[band])
    counts = rng.poisson(rates * rng.gamma(5, 0.2, (120, 1))).astype(np.int32)
    features = rng.normal(0, 0.5, (3, 24))[band] + rng.normal(size=(120, 24))
    near = NearestNeighbors(n_neighbors=9).fit(xy).kneighbors(xy, return_distance=False)
    return Sample(
        name="toy",
        patient="T",
        label_source=keys.SIMULATED,
        fingerprint="0",
        encoder="none",
        genes=tuple(f"g{i}" for i in range(60)),
        counts=csr_matrix(counts),
        total_counts=counts.sum(axis=1),
        target_sum=1e4,
        xy=xy,
        neighbors=near[:, 1:].astype(np.int32),
        image_features=features.astype(np.float32) if image else None,
        labels=np.array(["left", "middle", "right"])[band],
    )


@pytest.fixture(scope="module")
def sample() -> Sample:
    return toy_sample()


def test_same_seed_same_embedding_and_other_seed_another(sample: Sample) -> None:
    first, again, other = (train(sample, SETTING, seed) for seed in (3, 3, 4))
    assert np.array_equal(first.embedding, again.embedding)
    assert first.losses == again.losses
    assert not np.allclose(first.embedding, other.embedding, atol=1e-2)
    assert first.embedding.shape == (120, 16) and first.embedding.dtype == np.float32
    assert len(first.losses) == SETTING.epochs


def test_same_seed_same_embedding_in_another_process_with_other_threads(sample: Sample) -> None:
    code = (
        "import sys, hashlib, torch; sys.path.insert(0, sys.argv[1]); torch.set_num_threads(2)\n"
        "from test_train import SETTING, toy_sample; from senca_ray.fit.train import train\n"
        "print(hashlib.sha256(train(toy_sample(), SETTING, 3).embedding.tobytes()).hexdigest())"
    )
    here = str(Path(__file__).parent)
    found = subprocess.run([sys.executable, "-c", code, here], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == hashlib.sha256(train(sample, SETTING, 3).embedding.tobytes()).hexdigest()


def test_masks_come_from_the_seeds_own_generator(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = training.dropout_masks

    def masks_of(seed: int, meanwhile: int | None) -> list[torch.Tensor]:
        masks = []

        def recorded(shape: tuple[int, ...], rate: float, generators: list[torch.Generator]) -> torch.Tensor:
            if meanwhile is not None:  # another seed trains between any two epochs of this one
                monkeypatch.setattr(training, "dropout_masks", draw)
                train(sample, dataclasses.replace(SETTING, epochs=2), meanwhile)
                monkeypatch.setattr(training, "dropout_masks", recorded)
                torch.rand(7)
            masks.append(draw(shape, rate, generators))
            return masks[-1]

        monkeypatch.setattr(training, "dropout_masks", recorded)
        train(sample, SETTING, seed)
        monkeypatch.setattr(training, "dropout_masks", draw)
        return masks

    alone, beside_another, other_seed = masks_of(1, None), masks_of(1, meanwhile=2), masks_of(2, None)
    assert len(alone) == SETTING.epochs
    assert all(torch.equal(a, b) for a, b in zip(alone, beside_another, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(alone, other_seed, strict=True))
    assert not torch.equal(alone[0], alone[1])


def test_the_process_is_left_as_it_was(sample: Sample) -> None:
    torch.set_num_threads(2)
    state = torch.get_rng_state()
    train(sample, SETTING, 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


# Printed by: python -c "import sys; sys.path.insert(0, 'tests/fit'); import test_train; test_train.report()"
REGRESSION = {
    "default": (55.467403411865234, 54.498783111572266, 54.183773040771484, 53.958492279052734),
    "literal": (49.71381759643555, 40.439361572265625, 36.97850036621094, 33.15299987792969),
    "product": (53.79773712158203, 52.344764709472656, 49.8330078125, 48.36825942993164),
    "rna": (46.36766052246094, 46.56517028808594, 44.394065856933594, 44.665748596191406),
}


def losses_to_keep(name: str) -> tuple[float, ...]:
    changes = {"literal": {"target": "literal"}, "product": {"softmax": "product"}}.get(name, {})
    setting = dataclasses.replace(SETTING, epochs=4, **changes)  # type: ignore[arg-type]
    return train(toy_sample(image=name != "rna"), setting, seed=7).losses


def report() -> None:
    for name in REGRESSION:
        print(f'    "{name}": {losses_to_keep(name)},')


@pytest.mark.parametrize("name", REGRESSION)
def test_losses_of_a_fixed_seed_have_not_changed(name: str) -> None:
    np.testing.assert_allclose(losses_to_keep(name), REGRESSION[name], rtol=1e-4)


@pytest.mark.parametrize("image", [True, False])
@pytest.mark.parametrize("target", ["standardised", "literal"])
def test_training_lowers_the_loss_and_each_term_is_kept(image: bool, target: str) -> None:
    setting = dataclasses.replace(SETTING, target=target)  # type: ignore[arg-type]
    trained = train(toy_sample(image), setting, 0)
    assert trained.losses[-1] < 0.95 * trained.losses[0]
    assert set(trained.terms) == ({"pooled", "windowed"} if image else set()) | {"reconstruction"}
    weight = {"reconstruction": setting.mse_weight}
    totals = sum(weight.get(name, 1) * np.array(values) for name, values in trained.terms.items())
    np.testing.assert_allclose(trained.losses, totals, rtol=1e-5)


def spread_and_fit(setting: Setting, epochs: int) -> tuple[float, float]:
    """Variance of the encoder's input, and the share of it that the decoder explains (R²)."""
    section = section_tensors(toy_sample(), setting)
    model, _ = initialise(section, setting, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=setting.learning_rate)
    for _ in range(epochs):
        optimizer.zero_grad()
        loss_terms(model(section), section, setting.temperature).total(setting.mse_weight).backward()
        optimizer.step()
    with torch.no_grad():
        output = model(section)
    variance = output.encoder_input.var(dim=0, correction=0).mean().item()
    error = (output.reconstruction - output.encoder_input).square().mean().item()
    return variance, 1 - error / variance


def test_literal_target_shrinks_its_own_target_and_the_standardised_one_reconstructs() -> None:
    literal = dataclasses.replace(SETTING, target="literal")
    before, _ = spread_and_fit(literal, epochs=0)
    after, explained = spread_and_fit(literal, epochs=100)
    assert after < before / 4 and explained < 0.2
    after, explained = spread_and_fit(SETTING, epochs=100)
    assert after == pytest.approx(1, abs=0.01) and explained > 0.8


def test_standardised_embedding_does_not_collapse(sample: Sample) -> None:
    trained = train(sample, dataclasses.replace(SETTING, epochs=100), 0).embedding
    assert trained.var(axis=0).mean() > 0.1 * untrained(sample, SETTING, 0).var(axis=0).mean()


@pytest.mark.parametrize("image", [True, False])
def test_the_bands_of_the_toy_are_found(image: bool) -> None:
    sample = toy_sample(image)
    found = AgglomerativeClustering(3).fit_predict(train(sample, SETTING, 0).embedding)
    assert adjusted_rand_score(sample.labels, found) > 0.8


@pytest.mark.parametrize("image", [True, False])
def test_untrained_is_where_training_starts(image: bool) -> None:
    sample = toy_sample(image)
    # A step too small to change a float32 weight: training returns the network that it began with.
    standing_still = train(sample, dataclasses.replace(SETTING, learning_rate=1e-30), 5)
    assert np.array_equal(standing_still.embedding, untrained(sample, SETTING, 5))
    assert not np.allclose(train(sample, SETTING, 5).embedding, untrained(sample, SETTING, 5), atol=1e-2)


def test_without_an_image_the_image_features_are_never_needed() -> None:
    section = section_tensors(toy_sample(image=False), SETTING)
    model, _ = initialise(section, SETTING, 0)
    assert section.image_features is None
    assert not any("image" in name for name, _ in model.named_parameters())
    assert set(train(toy_sample(image=False), SETTING, 0).terms) == {"reconstruction"}


def test_prefixes_of_genes_and_neighbours_are_all_that_is_read(sample: Sample) -> None:
    setting = dataclasses.replace(SETTING, hvgs=20, neighbors=3)
    shorter = dataclasses.replace(
        sample, genes=sample.genes[:20], counts=sample.counts[:, :20], neighbors=sample.neighbors[:, :3]
    )
    assert train(sample, setting, 0).losses == train(shorter, setting, 0).losses


def test_divergence_names_sample_seed_epoch_and_fix(sample: Sample) -> None:
    with pytest.raises(
        SencaError, match=r"toy, seed 2: the loss is (inf|nan) in epoch 2.*Lower learning_rate"
    ):
        train(sample, dataclasses.replace(SETTING, learning_rate=1e20), 2)
    with pytest.raises(SencaError, match=r"toy, seed 2: the embedding is not finite after epoch 1"):
        train(sample, dataclasses.replace(SETTING, learning_rate=1e30, epochs=1), 2)


def in_double(*arguments: Any) -> SectionTensors:
    section = section_tensors(*arguments)
    return section._replace(
        **{
            name: x.double()
            for name, x in section._asdict().items()
            if x is not None and x.is_floating_point()
        }
    )


@pytest.mark.parametrize(("double", "tolerance"), [(False, 1e-5), (True, 1e-10)])
@pytest.mark.parametrize("image", [True, False])
def test_batched_seeds_start_like_single_ones(
    image: bool, double: bool, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if double:
        monkeypatch.setattr(training, "section_tensors", in_double)
    sample, setting = toy_sample(image), dataclasses.replace(SETTING, epochs=3)
    batch = train_batch(sample, setting, (4, 0, 9))
    for seed, found in zip((4, 0, 9), batch, strict=True):
        assert not isinstance(found, SencaError)
        alone = train(sample, setting, seed)
        np.testing.assert_allclose(found.losses, alone.losses, rtol=tolerance)
        assert found.terms.keys() == alone.terms.keys()
        for name, values in alone.terms.items():
            np.testing.assert_allclose(found.terms[name], values, rtol=10 * tolerance)
        np.testing.assert_allclose(found.embedding, alone.embedding, atol=1e-9 if double else 1e-4)
        assert found.embedding.dtype == (np.float64 if double else np.float32)


class _Operators(TorchDispatchMode):
    """Counts what torch is asked to compute: on a small section, that is what a GPU's time goes into."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("image", [True, False])
def test_fifteen_seeds_as_one_batch_take_few_more_operators_than_one(image: bool) -> None:
    sample = toy_sample(image)
    with _Operators() as one:
        train(sample, SETTING, 0)
    with _Operators() as batch:
        train_batch(sample, SETTING, range(15))
    assert batch.count < 1.6 * one.count


@pytest.mark.parametrize("image", [True, False])
def test_a_batch_starts_from_the_weights_and_streams_of_its_seeds(image: bool) -> None:
    section, state = section_tensors(toy_sample(image), SETTING), torch.get_rng_state()
    _, weights, masks = initialise_batch(section, SETTING, (4, 0))
    assert torch.equal(torch.get_rng_state(), state)
    for index, seed in enumerate((4, 0)):
        model, own = initialise(section, SETTING, seed)
        assert torch.equal(masks[index].get_state(), own.get_state())
        assert weights.keys() == dict(model.named_parameters()).keys()
        for name, weight in model.named_parameters():
            assert torch.equal(weights[name][index], weight)


def test_a_seed_that_diverges_leaves_the_rest_of_its_batch_alone(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = initialise_batch

    def broken(section: SectionTensors, setting: Setting, seeds: tuple[int, ...]) -> Any:
        model, weights, masks = healthy(section, setting, seeds)
        with torch.no_grad():
            weights["decoder.weight"][seeds.index(2), 0, 0] = torch.nan
        return model, weights, masks

    setting = dataclasses.replace(SETTING, epochs=3)
    undisturbed = train_batch(sample, setting, (1, 3))
    monkeypatch.setattr(training, "initialise_batch", broken)
    first, second, third = train_batch(sample, setting, (1, 2, 3))
    assert isinstance(second, SencaError)
    assert "toy, seed 2: the loss is nan in epoch 1; expected finite numbers" in str(second)
    for found, expected in zip((first, third), undisturbed, strict=True):
        assert isinstance(found, training.Trained) and isinstance(expected, training.Trained)
        np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-5)


def test_a_batch_that_diverges_altogether_stops_at_once(sample: Sample) -> None:
    found = train_batch(sample, dataclasses.replace(SETTING, learning_rate=1e20), (0, 1))
    assert [isinstance(error, SencaError) and "in epoch 2" in str(error) for error in found] == [True, True]


@pytest.mark.parametrize(
    "change", [{"attention": "uniform"}, {"contrast": False}, {"image": False}, {"graph": False}]
)
def test_an_ablation_trains_and_differs_from_the_full_model(change: dict[str, Any], sample: Sample) -> None:
    setting = dataclasses.replace(SETTING, **change)
    full, ablated = train(sample, SETTING, 0), train(sample, setting, 0)
    assert not np.allclose(full.embedding, ablated.embedding, atol=1e-2)
    batched = train_batch(sample, setting, (0, 1))[0]
    assert isinstance(batched, training.Trained)
    np.testing.assert_allclose(batched.losses[:3], ablated.losses[:3], rtol=1e-5)


def test_without_contrast_only_the_reconstruction_is_trained(sample: Sample) -> None:
    trained = train(sample, dataclasses.replace(SETTING, contrast=False), 0)
    assert set(trained.terms) == {"reconstruction"}
    assert trained.losses[-1] < trained.losses[0]


@pytest.mark.parametrize("embed", [lambda s, t: train(s, t, 3).embedding, lambda s, t: untrained(s, t, 3)])
def test_without_the_image_branch_the_numbers_are_those_of_a_section_without_image(embed: Any) -> None:
    left_out = embed(toy_sample(), dataclasses.replace(SETTING, image=False))
    assert np.array_equal(left_out, embed(toy_sample(image=False), SETTING))


def test_without_the_graph_positions_only_matter_to_the_tiles(sample: Sample) -> None:
    setting = dataclasses.replace(SETTING, graph=False)
    elsewhere = dataclasses.replace(sample, neighbors=sample.neighbors[::-1].copy())
    assert train(sample, setting, 0).losses == train(elsewhere, setting, 0).losses
    assert train(sample, SETTING, 0).losses != train(elsewhere, SETTING, 0).losses


class InMemory:
    """A checkpoint at every epoch that may fail in one of them, as an interrupted process does."""

    def __init__(self, fails_in: int | None = None) -> None:
        self.kept, self.saved, self.fails_in = b"", 0, fails_in

    def load(self) -> dict[str, Any] | None:
        return torch.load(io.BytesIO(self.kept), weights_only=True) if self.kept else None

    def due(self) -> bool:
        return True

    def save(self, state: dict[str, Any]) -> None:
        self.saved += 1
        if self.saved == self.fails_in:
            raise KeyboardInterrupt
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self.kept = buffer.getvalue()


def interrupted() -> InMemory:
    checkpoint = InMemory(fails_in=3)
    with pytest.raises(KeyboardInterrupt):
        train(toy_sample(), dataclasses.replace(SETTING, epochs=6), 1, checkpoint=checkpoint)
    checkpoint.fails_in = None
    return checkpoint


def test_interrupted_training_goes_on_to_the_same_numbers(sample: Sample) -> None:
    setting, checkpoint = dataclasses.replace(SETTING, epochs=6), interrupted()
    undisturbed, found = train(sample, setting, 1), train(sample, setting, 1, checkpoint=checkpoint)
    assert (
        checkpoint.saved == 3 + 3
    )  # epochs 3 to 5: the first two were not trained again, the last is kept by none
    assert found.losses == undisturbed.losses and found.terms == undisturbed.terms
    assert np.array_equal(found.embedding, undisturbed.embedding)
    assert found.earlier_seconds > 0 == undisturbed.earlier_seconds


def test_an_interrupted_batch_goes_on_to_the_same_numbers(sample: Sample) -> None:
    setting, checkpoint = dataclasses.replace(SETTING, epochs=4), InMemory(fails_in=2)
    with pytest.raises(KeyboardInterrupt):
        train_batch(sample, setting, (0, 1), checkpoint=checkpoint)
    checkpoint.fails_in = None
    found = train_batch(sample, setting, (0, 1), checkpoint=checkpoint)
    assert checkpoint.saved == 2 + 2
    for a, b in zip(found, train_batch(sample, setting, (0, 1)), strict=True):
        assert isinstance(a, training.Trained) and isinstance(b, training.Trained)
        assert a.losses == b.losses and np.array_equal(a.embedding, b.embedding)


def test_the_state_of_another_seed_is_not_gone_on_from(sample: Sample) -> None:
    setting = dataclasses.replace(SETTING, epochs=6)
    assert train(sample, setting, 2, checkpoint=interrupted()).losses == train(sample, setting, 2).losses


LARGE = dataclasses.replace(SETTING, form="large", epochs=4)


def test_a_large_section_trains_to_nearly_the_same_embedding(sample: Sample) -> None:
    exact, large = train(sample, dataclasses.replace(LARGE, form="exact"), 3), train(sample, LARGE, 3)
    assert exact.losses != large.losses
    np.testing.assert_allclose(large.losses, exact.losses, rtol=1e-3)
    spread = np.linalg.norm(exact.embedding - exact.embedding.mean(axis=0))
    assert np.linalg.norm(large.embedding - exact.embedding) < 0.02 * spread
    standing_still = train(sample, dataclasses.replace(LARGE, learning_rate=1e-30), 3)
    assert np.array_equal(standing_still.embedding, untrained(sample, LARGE, 3))


def test_a_large_section_is_contrasted_in_part(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(sample, LARGE, 3)
    monkeypatch.setattr(losses_module, "DRAWN", 40)
    part = train(sample, LARGE, 3)
    assert part.terms["windowed"][0] != whole.terms["windowed"][0]
    np.testing.assert_allclose(part.terms["windowed"], whole.terms["windowed"], rtol=0.05)
    assert part.terms["reconstruction"][0] == whole.terms["reconstruction"][0]  # the masks are the same


def test_seeds_of_a_large_section_are_no_batch(sample: Sample) -> None:
    with pytest.raises(SencaError, match="toy: a batch of seeds of a large section"):
        train_batch(sample, LARGE, (4, 3))


def test_what_is_made_again_gives_the_same_numbers(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = train(sample, LARGE, 3)
    for module in (graph_transformer, cross_attention):
        monkeypatch.setattr(module, "MADE_AGAIN_FROM", 100)
    np.testing.assert_allclose(train(sample, LARGE, 3).losses, kept.losses, rtol=1e-5)


def test_a_large_section_goes_on_to_the_same_numbers(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses_module, "DRAWN", 40)
    checkpoint = InMemory(fails_in=2)
    with pytest.raises(KeyboardInterrupt):
        train(sample, LARGE, 1, checkpoint=checkpoint)
    checkpoint.fails_in = None
    assert train(sample, LARGE, 1, checkpoint=checkpoint).losses == train(sample, LARGE, 1).losses
