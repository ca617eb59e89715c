"""One step of CycleGAN: both ways and back, then the discriminators."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models.ddat.losses import feature_loss, gan_loss, identity_loss
from models.ddat.network import Discriminator
from models.ddat.objective import Parts, total_of
from models.nir_cyclegan import losses
from models.nir_cyclegan.batches import Batch
from models.nir_cyclegan.losses import Perception
from models.nir_cyclegan.network import Generator
from models.nir_cyclegan.options import TrainOptions
from models.nir_cyclegan.perception import FaceEyes, Seen, Vgg16
from models.nir_cyclegan.pool import ImagePool
from models.training.precision import mixed


@dataclass(frozen=True)
class Networks:
    """All networks of a run.

    Attributes:
        vis2nir: G.
        nir2vis: F.
        judge_nir: D of near-infrared faces.
        judge_vis: D of visible faces.
        eyes: the frozen teacher.
        vgg: for the perceptual loss, in place of the teacher's maps.
    """

    vis2nir: Generator
    nir2vis: Generator
    judge_nir: Discriminator
    judge_vis: Discriminator
    eyes: FaceEyes
    vgg: Vgg16 | None = None

    @property
    def perception(self) -> Perception:
        """What the perceptual loss looks with."""
        return "face" if self.vgg is None else "vgg16"

    def learned(self) -> dict[str, nn.Module]:
        """Those that a checkpoint holds."""
        return {
            "vis2nir": self.vis2nir,
            "nir2vis": self.nir2vis,
            "judge_nir": self.judge_nir,
            "judge_vis": self.judge_vis,
        }


class Drawn(NamedTuple):
    """What the generators draw in a step, fp32.

    Attributes:
        nir: G(x).
        vis: F(y).
        vis_back: F(G(x)).
        nir_back: G(F(y)).
        paired: F of the P given faces.
    """

    nir: Tensor
    vis: Tensor
    vis_back: Tensor
    nir_back: Tensor
    paired: Tensor


class Game:
    """The networks with their optimisers: one Adam for G and F, one for both discriminators.

    Args:
        options: weights and rates.
        networks: moved in place.
        device: where they are.
        check: told of each optimiser's step whether loss and gradient are finite; says whether to
            take it.
    """

    def __init__(
        self,
        options: TrainOptions,
        networks: Networks,
        device: torch.device,
        check: Callable[[bool], bool],
    ):
        self.options, self.networks, self.device, self.check = options, networks, device, check
        o, betas = options, (options.beta1, options.beta2)
        self.learned = {
            "g": _parameters(networks.vis2nir, networks.nir2vis),
            "d": _parameters(networks.judge_nir, networks.judge_vis),
        }
        self.rates = {"g": o.lr, "d": o.lr_discriminator}
        self.optimisers = {
            name: torch.optim.Adam(self.learned[name], self.rates[name], betas)
            for name in self.learned
        }
        self.pools = {"nir": ImagePool(o.pool), "vis": ImagePool(o.pool)}

    def set_rates(self, step: int, steps: int) -> float:
        """Rising, constant, falling to 0 over the last share of the run; gives the factor."""
        o = self.options
        left = (1 - step / steps) / o.decay if o.decay else 1.0
        factor = min(1.0, left, (step + 1) / o.warmup if o.warmup else 1.0)
        for name, optimiser in self.optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = self.rates[name] * factor
        return factor

    def play(self, batch: Batch, step: int, steps: int) -> dict[str, float]:
        """One step on a batch that is on the device.

        Returns:
            Weighed losses by name, and the generators' sum as "total".
        """
        o = self.options
        judged = bool(o.adversarial_weight) and step >= o.pretrain * steps
        drawn = self._draw(batch)
        parts = {
            "cycle_vis": o.cycle_weight * losses.cycle_loss(drawn.vis_back, batch.vis),
            "cycle_nir": o.cycle_weight * losses.cycle_loss(drawn.nir_back, batch.nir),
        }
        parts |= self._looks(batch, drawn, reconstructed=(step + 1) % o.look_every == 0)
        if o.pairs and o.brightness_weight:
            lost = losses.brightness_loss(drawn.paired, batch.good)
            parts["brightness"] = o.brightness_weight * lost
        if o.mapping_weight:
            parts |= self._mapping(batch)
        if judged:
            parts |= self._convincing(drawn)
        row = self._take_step("g", parts)
        if judged:
            rng = np.random.default_rng((o.seed, step, 3))
            theirs = self._take_step("d", self._judgement(batch, drawn, rng))
            row |= {name: value for name, value in theirs.items() if name != "total"}
        return row

    def state(self) -> dict[str, Any]:
        """Of the optimisers and the pools."""
        return {
            **{name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "pools": {name: pool.state() for name, pool in self.pools.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state[name])
        for name, pool in self.pools.items():
            pool.restore(state["pools"][name], self.device)

    def _draw(self, batch: Batch) -> Drawn:
        """Both ways in as few passes as can be: instance norm takes each picture by itself."""
        count = len(batch.vis)
        forth, back = self.networks.vis2nir, self.networks.nir2vis
        with self._autocast():
            first = back(torch.cat([batch.nir, batch.given])).float()
            second = forth(torch.cat([batch.vis, first[:count]])).float()
            third = back(second[:count]).float()
        return Drawn(second[:count], first[:count], third, second[count:], first[count:])

    def _looks(self, batch: Batch, drawn: Drawn, *, reconstructed: bool) -> Parts:
        """Losses that a frozen network's look decides: perceptual, and who is seen."""
        o, networks = self.options, self.networks
        perceptual = reconstructed and bool(o.perceptual_weight)
        identified = reconstructed and bool(o.cycle_identity_weight)
        # Both ends of each comparison, in the same order.
        before, after = (
            torch.cat([batch.vis, batch.nir]),
            torch.cat([drawn.vis_back, drawn.nir_back]),
        )
        count = len(before)
        parts: Parts = {}
        paired = bool(o.pairs and (o.identity_weight or o.feature_weight))
        if perceptual and networks.vgg is not None:
            with torch.no_grad(), self._autocast():
                wanted = networks.vgg(before)
            with self._autocast():
                seen = networks.vgg(after)
            lost = losses.perceptual_loss(seen, wanted, "vgg16")
            parts["perceptual"] = o.perceptual_weight * lost
        cycled = identified or (perceptual and networks.vgg is None)
        if not cycled and not paired:
            return parts
        old = torch.cat([*([before] if cycled else []), *([batch.good] if paired else [])])
        new = torch.cat([*([after] if cycled else []), *([drawn.paired] if paired else [])])
        with torch.no_grad(), self._autocast():
            was: Seen = networks.eyes(old)
        with self._autocast():
            now: Seen = networks.eyes(new)
        if perceptual and networks.vgg is None:
            maps = [tap[:count] for tap in now.taps], [tap[:count] for tap in was.taps]
            parts["perceptual"] = o.perceptual_weight * losses.perceptual_loss(*maps, "face")
        if identified:
            lost = identity_loss(now.feature[:count], was.feature[:count])
            parts["cycle_identity"] = o.cycle_identity_weight * lost
        if paired and o.identity_weight:
            lost = identity_loss(now.feature[-o.pairs :], was.feature[-o.pairs :])
            parts["identity"] = o.identity_weight * lost
        if paired and o.feature_weight:
            ends = [seen[-o.pairs :] for seen in now.maps], [seen[-o.pairs :] for seen in was.maps]
            parts["feature"] = o.feature_weight * feature_loss(*ends)
        return parts

    def _mapping(self, batch: Batch) -> Parts:
        """What already is of the other domain should stay as it is."""
        with self._autocast():
            nir, vis = self.networks.vis2nir(batch.nir), self.networks.nir2vis(batch.vis)
        kept = losses.cycle_loss(nir, batch.nir) + losses.cycle_loss(vis, batch.vis)
        return {"mapping": self.options.mapping_weight * kept}

    def _convincing(self, drawn: Drawn) -> Parts:
        """The discriminators' word on what was just drawn."""
        n, weight = self.networks, self.options.adversarial_weight
        _fixed(self.learned["d"], fixed=True)
        with self._autocast():
            nir, vis = n.judge_nir(drawn.nir), n.judge_vis(drawn.vis)
        _fixed(self.learned["d"], fixed=False)
        return {
            "g_nir": weight * gan_loss(nir, "lsq", 1.0),
            "g_vis": weight * gan_loss(vis, "lsq", 1.0),
        }

    def _judgement(self, batch: Batch, drawn: Drawn, rng: np.random.Generator) -> Parts:
        """Real faces against drawn ones from the pools, through which no gradient goes."""
        n = self.networks
        nir = self.pools["nir"].query(drawn.nir.detach(), rng)
        vis = self.pools["vis"].query(drawn.vis.detach(), rng)
        with self._autocast():
            of_nir = n.judge_nir(torch.cat([batch.nir, nir])).chunk(2)
            of_vis = n.judge_vis(torch.cat([batch.vis, vis])).chunk(2)
        return {
            "d_nir": losses.discriminator_loss(*of_nir),
            "d_vis": losses.discriminator_loss(*of_vis),
        }

    def _take_step(self, name: str, parts: Parts) -> dict[str, float]:
        """One backward pass and a step; what is not finite changes nothing."""
        total = total_of(parts)
        optimiser = self.optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        norm = torch.nn.utils.clip_grad_norm_(self.learned[name], self.options.clip)
        if self.check(bool(torch.isfinite(torch.stack([total, norm])).all())):
            optimiser.step()
        row = {part: float(value.detach()) for part, value in parts.items()}
        return {**row, "total": float(total.detach())}

    def _autocast(self) -> torch.autocast:
        return mixed(self.device, wanted=self.options.amp)


def _parameters(*networks: nn.Module) -> list[nn.Parameter]:
    return list(chain.from_iterable(network.parameters() for network in networks))


def _fixed(parameters: Iterable[nn.Parameter], *, fixed: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(not fixed)
