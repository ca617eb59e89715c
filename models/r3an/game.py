"""One step of R3AN: Algorithm 1's four updates, in its order, each with its own optimiser."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.r3an import losses
from models.r3an.mappers import ResidualR3an
from models.r3an.network import Networks, scaled
from models.r3an.options import TrainOptions
from models.training.precision import mixed


class Batch(NamedTuple):
    """Faces of one step.

    Attributes:
        source: (B,d_S) unit vectors.
        target: (B,d_T) unit vectors.
        images: (B,3,56,56) RGB, -1 to 1; empty where no face is in between.
    """

    source: Tensor
    target: Tensor
    images: Tensor


class Game:
    """The networks with their optimisers.

    Args:
        options: losses, weights and rates.
        mapper: the whole way, unit source vectors to target vectors; moved in place.
        networks: generator, discriminator, extractor of the mapper; None for a map without a face.
        device: where they are.

    Attributes:
        finite: whether all losses and gradients of the last step were numbers.
    """

    def __init__(
        self,
        options: TrainOptions,
        mapper: nn.Module,
        networks: Networks | None,
        device: torch.device,
    ):
        self.options, self.mapper, self.networks = options, mapper, networks
        self.device, self.finite = device, True
        o = options
        self.learned = {"reg": list(mapper.parameters())}
        if networks is not None:
            self.learned |= {
                "d": list(networks.discriminator.parameters()),
                "g": list(networks.generator.parameters()),
                "e": list(networks.extractor.parameters()),
            }
        self.rates = {"reg": o.lr_extractor, "d": o.lr, "g": o.lr, "e": o.lr_extractor}
        self.optimisers = {
            name: torch.optim.Adam(
                moved, self.rates[name], (o.beta1 if name in "dg" else 0.9, o.beta2)
            )
            for name, moved in self.learned.items()
        }

    def play(self, batch: Batch, progress: float) -> dict[str, float]:
        """The updates of D, G, E, and of G and E together, on one batch on the device.

        Args:
            batch: faces.
            progress: share of the run that is done, [0,1].

        Returns:
            Losses by name; "total" is their weighed sum.
        """
        o = self.options
        factor = 0.5 * (1 + math.cos(math.pi * progress))
        for name, optimiser in self.optimisers.items():
            optimiser.param_groups[0]["lr"] = self.rates[name] * factor
        self.mapper.train()
        self.finite = True
        row: dict[str, float] = {}
        begun = progress >= o.pretrain
        if self.networks is not None:
            adversarial = self._ramp(progress) * o.adv_weight if o.rec_adv and begun else 0.0
            if o.rec_adv and begun:
                row |= self._discriminator(self.networks, batch)
            if begun and (o.rec_adv or o.rec_l2):
                row |= self._generator(self.networks, batch, adversarial)
            if o.rep_l2:
                row |= self._extractor(self.networks, batch)
        if (self.networks is None or o.reg_l2) and begun:
            row |= self._regression(batch)
        return {**row, "total": sum(row.values())}

    def state(self) -> dict[str, Any]:
        """Of all optimisers."""
        return {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state[name])

    def _discriminator(self, networks: Networks, batch: Batch) -> dict[str, float]:
        with self._autocast():
            with torch.no_grad():
                made = networks.generator(scaled(batch.source))
            lost = losses.discriminator_loss(
                networks.discriminator(batch.images), networks.discriminator(made)
            )
        return self._update("d", {"d": lost})

    def _generator(self, networks: Networks, batch: Batch, adversarial: float) -> dict[str, float]:
        o = self.options
        parts: dict[str, Tensor] = {}
        with self._autocast():
            made = networks.generator(scaled(batch.source))
            if o.rec_l2:
                lost = losses.distance(made, batch.images, o.distance)
                parts["rec_l2"] = o.rec_weight * lost
            if o.rec_adv:
                lost = losses.adversarial_loss(networks.discriminator(made))
                parts["rec_adv"] = adversarial * lost
        return self._update("g", parts)

    def _extractor(self, networks: Networks, batch: Batch) -> dict[str, float]:
        o = self.options
        with self._autocast():
            made = networks.extractor(batch.images)
            lost = losses.distance(made, scaled(batch.target), o.distance)
        return self._update("e", {"rep": o.rep_weight * lost})

    def _regression(self, batch: Batch) -> dict[str, float]:
        """A fresh forward pass, through the networks as the updates before have left them."""
        o = self.options
        with self._autocast():
            made = self.mapper(batch.source)
            if isinstance(self.mapper, ResidualR3an):
                made = made * math.sqrt(made.shape[1])
            lost = losses.distance(made, scaled(batch.target), o.distance)
        return self._update("reg", {"reg": o.reg_weight * lost})

    def _ramp(self, progress: float) -> float:
        since = progress - self.options.pretrain
        return min(1.0, since / self.options.adv_ramp) if self.options.adv_ramp else 1.0

    def _update(self, mover: str, parts: dict[str, Tensor]) -> dict[str, float]:
        """One backward pass and one optimiser's step; what is not finite changes nothing."""
        total = torch.stack(list(parts.values())).sum()
        moved = self.learned[mover]
        # The gradients of the other networks on the way are not theirs to keep.
        gradients = torch.autograd.grad(total, moved, allow_unused=True)
        for parameter, gradient in zip(moved, gradients, strict=True):
            parameter.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(moved, self.options.clip)
        if bool(torch.isfinite(torch.stack([total.detach(), norm])).all()):
            self.optimisers[mover].step()
        else:
            self.finite = False
        for parameter in moved:
            parameter.grad = None
        return {name: float(value.detach()) for name, value in parts.items()}

    def _autocast(self) -> torch.autocast:
        return mixed(self.device, wanted=self.options.amp)
