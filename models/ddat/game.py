"""One step of DDAT: who moves when, and by which optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from models.ddat import losses, objective
from models.ddat.batches import Batch
from models.ddat.network import Translated
from models.ddat.objective import Made, Networks, Parts, Stage, total_of
from models.ddat.options import TrainOptions
from models.ddat.verifier import Seen
from models.training.precision import mixed

LEAST_RATE = 0.05
"""What is left of the learning rates at the end of their fall."""


class Game:
    """The networks with their optimisers: Adam for G, A and D, SGD for V.

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
        o = options
        betas = (o.beta1_game, o.beta2)
        self.learned: dict[str, list[nn.Parameter]] = {
            "g": list(networks.generator.parameters()),
            "a": list(networks.adaptor.parameters()),
            "d": list(networks.discriminator.parameters()),
            "v": networks.verifier.learned(),
        }
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "g": torch.optim.Adam(self.learned["g"], o.lr, (o.beta1, o.beta2)),
            "a": torch.optim.Adam(self.learned["a"], o.lr, betas),
            "d": torch.optim.Adam(self.learned["d"], o.lr_discriminator, betas),
            "v": torch.optim.SGD(self.learned["v"], o.lr_verifier, o.momentum),
        }
        self.rates = {name: x.param_groups[0]["lr"] for name, x in self.optimisers.items()}

    def set_rates(self, step: int, steps: int) -> float:
        """Constant, then falling over the last share of the run; gives the factor."""
        left = (1 - step / steps) / self.options.decay if self.options.decay else 1.0
        factor = max(LEAST_RATE, min(1.0, left))
        for name, optimiser in self.optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = self.rates[name] * factor
        return factor

    def play(self, batch: Batch, stage: Stage) -> dict[str, float]:
        """One step on a batch that is on the device: D, A, then G and V.

        Where G and V are joint, one backward pass serves both; else V follows on detached faces.

        Returns:
            Weighed losses by name, and their sum for the generator's pass as "total".
        """
        o, networks = self.options, self.networks
        networks.generator.train()
        given = torch.cat([batch.source, batch.target]) if stage.target else batch.source
        with self._autocast():
            translated: Translated = networks.generator(given)
        images = translated.image.float()
        count = len(batch.good)
        made = Made(images[:count], images[count:] if stage.target else None)
        row = {"lambda_a": stage.adaptor_weight}
        if stage.game and o.adversarial_weight:
            row |= self._step_discriminator(batch.good, made)

        parts: Parts = {"l1": o.l1_weight * losses.pixel_loss(made.source, batch.good)}
        movers = ["g"]
        if stage.game and o.adversarial_weight:
            parts |= objective.adversarial_parts(networks, o, made, self._autocast())
        if stage.target and o.adaptor_weight:
            h = translated.bottleneck
            row["adaptor_accuracy"] = objective.adaptor_accuracy(networks.adaptor, h, o)
            if o.adversary == "swapped":
                own = objective.adaptor_parts(networks, o, h.detach(), swapped=False)
                row |= self._take_step(["a"], {"adaptor": own})
            else:
                movers.append("a")
            parts |= objective.encoder_parts(networks, o, h, stage.adaptor_weight)

        joint = stage.verifier and o.joint
        seen, target, good = self._look(made, batch.good, stage, learned=joint)
        parts |= objective.identity_parts(networks, o, seen, good, batch.labels, game=stage.game)
        if target is not None:
            agreed = losses.identity_loss(target.own, self._weak(batch.weak).own)
            parts["consistency_target"] = o.consistency_weight * agreed
        if joint:
            movers.append("v")
            parts |= objective.verifier_parts(networks, o, seen, good, batch.labels)
            parts |= self._vat(made, stage)
        row |= self._take_step(movers, parts)
        if joint:
            self._move_centres(seen, good, batch.labels)
        elif stage.verifier:
            later = self._step_verifier(batch, made, stage)
            row |= {name: value for name, value in later.items() if name != "total"}
        return row

    def state(self) -> dict[str, Any]:
        """Of all optimisers."""
        return {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state[name])

    def _step_discriminator(self, good: Tensor, made: Made) -> dict[str, float]:
        parts = objective.discriminator_parts(
            self.networks, self.options, good, made, self._autocast()
        )
        return self._take_step(["d"], parts)

    def _step_verifier(self, batch: Batch, made: Made, stage: Stage) -> dict[str, float]:
        """V by itself, on faces through which no gradient goes."""
        o, networks = self.options, self.networks
        there = Made(made.source.detach(), None)
        seen, _, good = self._look(there, batch.good, stage, learned=True)
        parts = objective.verifier_parts(networks, o, seen, good, batch.labels)
        of_made = losses.classification_loss(networks.verifier.logits(seen.own), batch.labels)
        parts["v_made"] = o.classification_weight * of_made
        row = self._take_step(["v"], parts | self._vat(made, stage))
        self._move_centres(seen, good, batch.labels)
        return row

    def _look(
        self, made: Made, good: Tensor, stage: Stage, *, learned: bool
    ) -> tuple[Seen, Seen | None, Seen]:
        """What V sees in source, target (where it is asked for) and good faces.

        Args:
            made: translated faces.
            good: the source's good faces.
            stage: says whether the target is looked at.
            learned: V's own layers get gradients; else they are fixed, and the good faces take
                no graph at all.
        """
        verifier = self.networks.verifier
        for parameter in self.learned["v"]:
            parameter.requires_grad_(learned)
        faces = [made.source]
        if stage.consistency and made.target is not None:
            faces.append(made.target)
        if learned:
            faces.append(good)
        with self._autocast():
            seen: Seen = verifier(torch.cat(faces))
        blocks = seen.parts(len(good))
        if not learned:
            with torch.no_grad(), self._autocast():
                blocks.append(verifier(good))
        return blocks[0], blocks[1] if len(blocks) == 3 else None, blocks[-1]

    @torch.no_grad()
    def _weak(self, weak: Tensor) -> Seen:
        """What V sees in the weakly augmented target; the generator's statistics do not move."""
        generator = self.networks.generator.eval()
        with self._autocast():
            translated: Translated = generator(weak)
            seen: Seen = self.networks.verifier(translated.image.float())
        generator.train()
        return seen

    def _vat(self, made: Made, stage: Stage) -> Parts:
        if not stage.vat or made.target is None:
            return {}
        with torch.autocast(self.device.type, enabled=False):
            lost = losses.vat_loss(self.networks.verifier.classify, made.target)
        return {"vat": stage.vat_weight * lost}

    def _move_centres(self, made: Seen, good: Seen, labels: Tensor) -> None:
        features = torch.cat([good.own, made.own]).detach()
        both = torch.cat([labels, labels])
        self.networks.verifier.move_centres(features, both, self.options.centre_step)

    def _take_step(self, movers: list[str], parts: Parts) -> dict[str, float]:
        """One backward pass and the movers' steps; what is not finite changes nothing."""
        total = total_of(parts)
        for name in movers:
            self.optimisers[name].zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        norms = [
            torch.nn.utils.clip_grad_norm_(self.learned[name], self.options.clip) for name in movers
        ]
        if self.check(bool(torch.isfinite(torch.stack([total, *norms])).all())):
            for name in movers:
                self.optimisers[name].step()
        row = {name: float(value.detach()) for name, value in parts.items()}
        return {**row, "total": float(total.detach())}

    def _autocast(self) -> torch.autocast:
        return mixed(self.device, wanted=self.options.amp)
