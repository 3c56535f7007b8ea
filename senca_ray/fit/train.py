"""Training of SENCA-st on one sample: full graph, the same numbers every time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.fit.determinism import deterministic, one_thread
from senca_ray.fit.finetune import load_tuned, tunes
from senca_ray.fit.form import form_of
from senca_ray.fit.initial import initialise, initialise_batch
from senca_ray.fit.section import section_tensors
from senca_ray.model.graph_transformer import dropout_masks
from senca_ray.model.losses import Drawn, draw, loss_terms
from senca_ray.model.senca import Output, SectionTensors, standardise


@dataclass(frozen=True)
class Trained:
    """What training leaves behind: N spots."""

    embedding: np.ndarray
    """(N, bottleneck) float32 shared embedding S, computed without dropout."""
    losses: tuple[float, ...]
    """Eq. 1 at every epoch, before that epoch's step."""
    terms: dict[str, tuple[float, ...]]
    """The unweighted terms of eq. 1 by name (those that apply), one value an epoch."""
    earlier_seconds: float = 0.0
    """Seconds spent before an interruption that training went on from."""


class Checkpoint(Protocol):
    """Keeps the state of a training under way: tensors, numbers and text in dicts and lists."""

    def load(self) -> dict[str, Any] | None:
        """The state kept last; None when there is none."""
        ...

    def due(self) -> bool:
        """Whether it is time to keep the state again."""
        ...

    def save(self, state: dict[str, Any]) -> None:
        """Keep this state in place of the last one; its tensors change once this returns."""
        ...


Losses = tuple[Tensor, dict[str, Tensor]]
"""Eq. 1 and its terms by name: scalars, or (S,) for a batch of S seeds."""


def train(
    sample: Sample, setting: Setting, seed: int, device: str = "cpu", checkpoint: Checkpoint | None = None
) -> Trained:
    """Train one network on one section with Adam, full graph (section 4.1.1), and embed its spots.

    The result depends on the sample, setting, seed and machine alone: weights and dropout masks come from
    generators of the seed's own. Training that goes on from a checkpoint ends with the same numbers. With
    `finetune` the image encoder is trained too, on the sample's patches (section 3.3).
    Raises SencaError when the loss or the embedding is not finite, or the encoder cannot be trained.
    """
    with one_thread(), deterministic(device):
        section = section_tensors(sample, setting, device)
        model, masks = initialise(section, setting, seed)
        parameters: list[Tensor] = list(model.parameters())
        tuned = load_tuned(sample, device) if tunes(sample, setting) else None
        if tuned is not None:
            parameters += tuned.parameters

        def seen() -> SectionTensors:
            if tuned is None:
                return section
            return section._replace(image_features=standardise(tuned.features()))

        def losses() -> Losses:
            (mask,) = dropout_masks(section.expression.shape, setting.dropout, [masks])
            output = model(now := seen(), mask)
            return _losses(output, now, setting, _drawn(now, setting, seed, training))

        training = _Training([seed], parameters, [masks], setting.learning_rate)
        training.run(losses, setting.epochs, checkpoint, None if tuned is None else tuned.backward)
        with torch.no_grad():
            embedding = model(seen()).embedding.cpu().numpy()
    return _trained(sample, setting, training, 0, embedding)


def train_batch(
    sample: Sample,
    setting: Setting,
    seeds: Sequence[int],
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
) -> list[Trained | SencaError]:
    """Train the networks of several seeds as one batched model: what a GPU is given, which one starves.

    Each seed starts from the weights and draws the masks of its own `train`; only the order of sums
    differs. In the order of `seeds`; a seed that diverges gives the error that `train` would raise.
    Raises SencaError where one seed fills a GPU: of a large section, and where the image encoder is trained.
    """
    if tunes(sample, setting) or form_of(setting, len(sample.xy)) == keys.LARGE:
        raise SencaError(
            f"{sample.name}: a batch of seeds of a large section, or with finetune; train one seed after the "
            "other"
        )
    with one_thread(), deterministic(device):
        section = section_tensors(sample, setting, device)
        model, weights, masks = initialise_batch(section, setting, seeds)

        def output(mask: Tensor | None = None) -> Output:
            return functional_call(model, weights, (section, mask))

        def losses() -> Losses:
            mask = dropout_masks(section.expression.shape, setting.dropout, masks)
            return _losses(output(mask), section, setting, None)

        training = _Training(list(seeds), list(weights.values()), masks, setting.learning_rate)
        training.run(losses, setting.epochs, checkpoint)
        with torch.no_grad():
            embeddings = output().embedding.cpu().numpy()
    results: list[Trained | SencaError] = []
    for index in range(len(seeds)):
        try:
            results.append(_trained(sample, setting, training, index, embeddings[index]))
        except SencaError as error:
            results.append(error)
    return results


def untrained(sample: Sample, setting: Setting, seed: int) -> np.ndarray:
    """Embed a section with the network that `train` starts from, (N, bottleneck) float32.

    It is the control of every claim about training.
    """
    with one_thread(), torch.no_grad():
        section = section_tensors(sample, setting)
        model, _ = initialise(section, setting, seed)
        return model(section).embedding.numpy()


def _drawn(section: SectionTensors, setting: Setting, seed: int, training: _Training) -> Drawn | None:
    """What the next step of a seed contrasts; None: everything, or nothing."""
    if section.blocks is None or section.image_features is None or not setting.contrast:
        return None
    # A generator for each epoch, so that the masks are those of the exact form, and nothing has to be kept
    # for going on after an interruption.
    own = np.random.SeedSequence((seed, len(training.losses))).generate_state(1)
    return draw(section, torch.Generator().manual_seed(int(own[0])))


def _losses(output: Output, section: SectionTensors, setting: Setting, drawn: Drawn | None) -> Losses:
    terms = loss_terms(output, section, setting.temperature, setting.contrast, drawn)
    return terms.total(setting.mse_weight), {k: v for k, v in terms._asdict().items() if v is not None}


@dataclass
class _Training:
    """Adam on the network of one seed, or on those of S seeds stacked: weights, masks and history."""

    seeds: list[int]
    parameters: list[Tensor]
    masks: list[torch.Generator]
    """The generator of each seed's dropout masks."""
    learning_rate: float
    losses: list[list[float]] = field(default_factory=list)
    """For each epoch the loss of each seed."""
    terms: dict[str, list[list[float]]] = field(default_factory=dict)
    earlier_seconds: float = 0.0

    def run(
        self,
        losses: Callable[[], Losses],
        epochs: int,
        checkpoint: Checkpoint | None,
        backward: Callable[[], None] | None = None,
    ) -> None:
        """Take a step an epoch; ends early when no seed has a finite loss any more.

        `backward` takes the gradient on to weights that the loss itself does not reach.
        """
        started = time.perf_counter()
        optimizer = torch.optim.Adam(self.parameters, lr=self.learning_rate)
        if checkpoint is not None:
            self._go_on(checkpoint.load(), optimizer)
        for epoch in range(len(self.losses) + 1, epochs + 1):
            loss, terms = losses()
            self.losses.append(loss.reshape(-1).tolist())
            for name, term in terms.items():
                self.terms.setdefault(name, []).append(term.reshape(-1).tolist())
            if not any(map(math.isfinite, self.losses[-1])):
                return
            optimizer.zero_grad()
            loss.sum().backward()
            if backward is not None:
                backward()
            optimizer.step()
            if checkpoint is not None and epoch < epochs and checkpoint.due():
                seconds = self.earlier_seconds + time.perf_counter() - started
                checkpoint.save(self._state(optimizer, seconds))

    def _state(self, optimizer: torch.optim.Optimizer, seconds: float) -> dict[str, Any]:
        return {
            "seeds": self.seeds,
            "parameters": [parameter.detach() for parameter in self.parameters],
            "optimizer": optimizer.state_dict(),
            "masks": [generator.get_state() for generator in self.masks],
            "losses": self.losses,
            "terms": self.terms,
            "seconds": seconds,
        }

    def _go_on(self, state: dict[str, Any] | None, optimizer: torch.optim.Optimizer) -> None:
        if state is None or state["seeds"] != self.seeds:
            return
        with torch.no_grad():
            for parameter, kept in zip(self.parameters, state["parameters"], strict=True):
                parameter.copy_(kept)
        optimizer.load_state_dict(state["optimizer"])
        for generator, kept in zip(self.masks, state["masks"], strict=True):
            generator.set_state(kept)
        self.losses, self.terms = state["losses"], state["terms"]
        self.earlier_seconds = state["seconds"]


def _trained(
    sample: Sample, setting: Setting, training: _Training, index: int, embedding: np.ndarray
) -> Trained:
    """The result of one seed of a training; raises SencaError when it is not finite."""
    losses = tuple(values[index] for values in training.losses)
    epoch = next((e for e, loss in enumerate(losses, 1) if not math.isfinite(loss)), None)
    finding = None
    if epoch is not None:
        finding = f"the loss is {losses[epoch - 1]} in epoch {epoch}"
    elif not np.isfinite(embedding).all():
        finding = f"the embedding is not finite after epoch {setting.epochs}"
    if finding is not None:
        raise SencaError(
            f"{sample.name}, seed {training.seeds[index]}: {finding}; expected finite numbers. Lower "
            f"learning_rate (now {setting.learning_rate:g}), or run `senca inspect` on the shard if other "
            "seeds fail as well"
        )
    terms = {name: tuple(values[index] for values in epochs) for name, epochs in training.terms.items()}
    return Trained(embedding, losses, terms, training.earlier_seconds / len(training.seeds))
