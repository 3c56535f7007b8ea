"""Training the image encoder too: a network so small that a plain implementation stands beside it."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from test_train import InMemory
from tiny_encoder import ASKED, PRINTED, load_tiny, tiny_network
from torch import Tensor
from toys import toy_sample

from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.fit import finetune
from senca_ray.fit import train as training
from senca_ray.fit.finetune import TunedEncoder
from senca_ray.fit.initial import initialise
from senca_ray.fit.section import section_tensors
from senca_ray.fit.train import train, train_batch, untrained
from senca_ray.model.graph_transformer import dropout_masks
from senca_ray.model.image_encoder import Encoder
from senca_ray.model.losses import loss_terms
from senca_ray.model.senca import standardise

SETTING = Setting(hvgs=30, embedding=16, hidden=16, bottleneck=8, epochs=3, finetune=True)
FROZEN = dataclasses.replace(SETTING, finetune=False)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Encoder]:
    """The encoders that training loaded, a fresh one each time."""
    found: list[Encoder] = []

    def load(*arguments: Any) -> Encoder:
        found.append(load_tiny(*arguments))
        return found[-1]

    monkeypatch.setattr(finetune, "load_encoder", load)
    return found


def prepared() -> Sample:
    """A section of 80 spots with its patches and the features that the encoder has of them."""
    rng = np.random.default_rng(0)
    sample = toy_sample()
    patches = rng.integers(0, 256, (80, 32, 32, 3)).astype(np.uint8)
    features = load_tiny(ASKED, None, "cpu", "float32").features(patches)
    return dataclasses.replace(
        sample, encoder=PRINTED, encoder_asked=ASKED, patches=patches, image_features=features
    )


def test_gradients_are_those_of_a_plain_backward() -> None:
    network = tiny_network().double()
    patches = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3)).astype(np.uint8)

    def encode(some: np.ndarray) -> Tensor:
        return network(torch.from_numpy(some).permute(0, 3, 1, 2).double() / 255)

    def loss(features: Tensor) -> Tensor:  # every spot meets every spot
        seen = features - features.mean(dim=0) / 2
        return (seen @ seen.T / 4).logsumexp(dim=1).mean() + seen.pow(3).sum()

    loss(encode(patches)).backward()
    plain = [parameter.grad for parameter in network.parameters()]
    for chunk in (7, 30):
        network.zero_grad()
        tuned = TunedEncoder(patches, encode, list(network.parameters()), chunk)
        loss(tuned.features()).backward()
        assert all(parameter.grad is None for parameter in network.parameters())
        tuned.backward()
        for parameter, expected in zip(network.parameters(), plain, strict=True):
            assert parameter.grad is not None and expected is not None and expected.abs().max() > 1e-6
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-10, atol=1e-10)


def test_a_gradient_that_nobody_left_is_missed() -> None:
    tuned = TunedEncoder(np.zeros((2, 4, 4, 3), np.uint8), lambda some: torch.zeros(len(some), 3), [], 8)
    with pytest.raises(RuntimeError, match="call `features`"):
        tuned.backward()


def plain_losses(sample: Sample) -> list[float]:
    """All patches at once, one graph, one Adam over the weights of both networks."""
    section = section_tensors(sample, SETTING)
    model, masks = initialise(section, SETTING, 3)
    assert sample.patches is not None
    encoder = load_tiny(ASKED, None, "cpu", "float32")
    encoder.network.module.requires_grad_(True)
    weights = [*model.parameters(), *encoder.network.module.parameters()]
    optimizer, losses = torch.optim.Adam(weights, lr=SETTING.learning_rate), []
    for _ in range(SETTING.epochs):
        seen = section._replace(image_features=standardise(encoder.forward(sample.patches)))
        output = model(seen, *dropout_masks(section.expression.shape, SETTING.dropout, [masks]))
        loss = loss_terms(output, seen, SETTING.temperature).total(SETTING.mse_weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.usefixtures("loaded")
def test_losses_are_those_of_a_plain_implementation() -> None:
    sample = prepared()
    found, frozen = train(sample, SETTING, 3), train(sample, FROZEN, 3)
    np.testing.assert_allclose(found.losses, plain_losses(sample), rtol=1e-5)
    assert found.losses[0] == pytest.approx(frozen.losses[0], rel=1e-6)
    assert abs(found.losses[2] - frozen.losses[2]) > 1e-4
    assert not np.allclose(found.embedding, frozen.embedding, atol=1e-4)
    again = train(sample, SETTING, 3)
    assert found.losses == again.losses and np.array_equal(found.embedding, again.embedding)


def test_the_weights_move_and_the_statistics_of_normalisation_do_not(
    loaded: list[Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = []

    def noted(*arguments: Any) -> Any:
        models.append(initialise(*arguments))
        return models[-1]

    monkeypatch.setattr(training, "initialise", noted)
    sample = prepared()
    embedding = train(sample, SETTING, 0).embedding
    (encoder,), ((model, _),) = loaded, models
    assert not encoder.network.module.training
    before, after = tiny_network(), encoder.network.module
    weights = dict(before.named_parameters())
    for name, parameter in after.named_parameters():
        if name != "2.bias":  # standardised away: its gradient is 0
            assert not torch.equal(parameter, weights[name]), name
    for name, buffer in after.named_buffers():
        assert torch.equal(buffer, before.get_buffer(name)), name
    # What is embedded in the end is what the tuned encoder sees.
    assert sample.patches is not None
    moved = dataclasses.replace(sample, image_features=encoder.features(sample.patches))
    with torch.no_grad():
        expected = model(section_tensors(moved, SETTING)).embedding.numpy()
    np.testing.assert_allclose(embedding, expected, atol=1e-5)


@pytest.mark.usefixtures("loaded")
def test_untrained_is_where_fine_tuning_starts() -> None:
    sample = prepared()
    still = dataclasses.replace(SETTING, learning_rate=1e-30)
    np.testing.assert_allclose(train(sample, still, 0).embedding, untrained(sample, SETTING, 0), atol=1e-5)


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("form", ["exact", "large"])
def test_interrupted_fine_tuning_goes_on_to_the_same_numbers(form: str) -> None:
    sample, checkpoint = prepared(), InMemory(fails_in=2)
    setting = dataclasses.replace(SETTING, form=form, epochs=4)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        train(sample, setting, 1, checkpoint=checkpoint)
    checkpoint.fails_in = None
    found, undisturbed = train(sample, setting, 1, checkpoint=checkpoint), train(sample, setting, 1)
    assert checkpoint.saved == 2 + 2
    assert found.losses == undisturbed.losses and found.terms == undisturbed.terms
    assert np.array_equal(found.embedding, undisturbed.embedding)


@pytest.mark.parametrize(
    ("sample", "setting"),
    [
        (toy_sample(image=False), SETTING),
        (toy_sample(), dataclasses.replace(SETTING, image=False)),
    ],
    ids=["no image", "no image branch"],
)
def test_where_there_is_nothing_to_tune_it_fits_as_ever(
    sample: Sample, setting: Setting, loaded: list[Encoder]
) -> None:
    found = train(sample, setting, 0)
    expected = train(sample, dataclasses.replace(setting, finetune=False), 0)
    assert found.losses == expected.losses and np.array_equal(found.embedding, expected.embedding)
    assert not loaded
    assert len(train_batch(sample, setting, (0, 1))) == 2


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patches": None}, r"T1: no patches to .* `senca prepare DATA --patches`"),
        ({"encoder_asked": ""}, r"T1: .* encoder tiny \(made up\), which its shard does not name"),
        (
            {"encoder": "tiny (weights sha256:0123)"},
            r"T1: .* encoder tiny \(weights sha256:0123\), by its name comes tiny \(made up\), other weights",
        ),
    ],
)
def test_what_cannot_be_tuned_is_told(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SencaError, match=words):
        train(dataclasses.replace(prepared(), **changes), SETTING, 0)


def test_an_encoder_that_needs_a_file_cannot_be_loaded() -> None:
    sample = dataclasses.replace(prepared(), encoder_asked="conch")
    with pytest.raises(SencaError, match=r"T1: .* cannot be loaded by its name \(.*prepared without --enc"):
        train(sample, SETTING, 0)


@pytest.mark.usefixtures("loaded")
def test_divergence_is_told_and_a_batch_refused() -> None:
    with pytest.raises(SencaError, match=r"T1, seed 2: the loss is (inf|nan) in epoch 2"):
        train(prepared(), dataclasses.replace(SETTING, learning_rate=1e20), 2)
    with pytest.raises(SencaError, match="T1: a batch of seeds of a large section, or with finetune"):
        train_batch(prepared(), SETTING, (0, 1))
