"""What the networks of one DDAT step lose: each side's losses by name, weighed, and added up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from models.ddat import losses
from models.ddat.losses import domain_ramp
from models.ddat.network import Adaptor, Discriminator, Generator, reverse_gradient
from models.ddat.options import TrainOptions
from models.ddat.verifier import Seen, Verifier

Parts = dict[str, Tensor]


@dataclass(frozen=True)
class Networks:
    """G, A, D and V."""

    generator: Generator
    adaptor: Adaptor
    discriminator: Discriminator
    verifier: Verifier


@dataclass(frozen=True)
class Stage:
    """What a step does, by the share of the run that is done.

    Attributes:
        game: pretraining is over: discriminator, adaptor, target and verifier take part.
        target: target faces go through the generator.
        consistency: they go through the verifier too, for the generator's sake.
        verifier: V is learned.
        vat: this step has a VAT term.
        adaptor_weight: lambda_A.
        vat_weight: lambda_vat.
    """

    game: bool
    target: bool
    consistency: bool
    verifier: bool
    vat: bool
    adaptor_weight: float
    vat_weight: float


def stage_of(options: TrainOptions, step: int, steps: int) -> Stage:
    """The stage of a step, counted from 0, of a run of so many."""
    o = options
    done = step / steps
    game = done >= o.pretrain
    progress = (done - o.pretrain) / (1 - o.pretrain) if game and o.pretrain < 1 else 0.0
    verifier = game and o.lr_verifier > 0
    vat = verifier and o.vat_weight > 0 and step % o.vat_every == 0
    adversarial = o.adversarial_weight * o.target_weight
    wanted = adversarial or o.adaptor_weight or o.consistency_weight or o.vat_weight
    return Stage(
        game=game,
        target=bool(game and wanted),
        consistency=bool(game and o.consistency_weight),
        verifier=verifier,
        vat=vat,
        adaptor_weight=o.adaptor_weight * domain_ramp(progress) if game else 0.0,
        vat_weight=o.vat_weight if done >= o.vat_from else o.vat_start * o.vat_weight,
    )


class Made(NamedTuple):
    """The generator's faces of a step, fp32; target is None where it takes no part."""

    source: Tensor
    target: Tensor | None


def discriminator_parts(
    networks: Networks, options: TrainOptions, good: Tensor, made: Made, amp: torch.autocast
) -> Parts:
    """(5) on faces through which no gradient goes, and R1 where it is asked for."""
    target = None if made.target is None or not options.target_weight else made.target.detach()
    faces = [good, made.source.detach(), *([target] if target is not None else [])]
    with amp:
        judged = networks.discriminator(torch.cat(faces)).float().split(len(good))
    parts = losses.discriminator_loss(
        judged[0], judged[1], judged[2] if target is not None else None, options.gan, options.smooth
    )
    if options.r1_weight:
        real = good.detach().float().requires_grad_()
        # The second derivative wants all digits.
        penalty = losses.gradient_penalty(networks.discriminator(real), real)
        parts["r1"] = options.r1_weight * penalty
    return parts


def adaptor_parts(
    networks: Networks, options: TrainOptions, bottleneck: Tensor, *, swapped: bool
) -> Tensor:
    """(4) of bottlenecks (2B,C,7,7), the source's first."""
    source, target = networks.adaptor(bottleneck.float()).chunk(2)
    loss = losses.confusion_loss if swapped else losses.adaptor_loss
    return loss(source, target, options.adaptor, *options.labels_of_domains())


def encoder_parts(
    networks: Networks, options: TrainOptions, bottleneck: Tensor, weight: float
) -> Parts:
    """The adaptor's part of the generator's loss, with the adaptor's own where both are one pass.

    Args:
        networks: the adaptor is used.
        options: the way against it.
        bottleneck: (2B,C,7,7) with gradient.
        weight: lambda_A.
    """
    if options.adversary == "reversal":
        turned = reverse_gradient(bottleneck, weight)
        return {"adaptor": adaptor_parts(networks, options, turned, swapped=False)}
    networks.adaptor.requires_grad_(requires_grad=False)
    lost = adaptor_parts(networks, options, bottleneck, swapped=True)
    networks.adaptor.requires_grad_(requires_grad=True)
    return {"confusion": weight * lost}


def adversarial_parts(
    networks: Networks, options: TrainOptions, made: Made, amp: torch.autocast
) -> Parts:
    """(1): the discriminator's word on the translated faces of both domains."""
    o = options
    target = made.target if o.target_weight else None
    networks.discriminator.requires_grad_(requires_grad=False)
    with amp:
        judged = networks.discriminator(
            torch.cat([made.source, *([target] if target is not None else [])])
        )
    networks.discriminator.requires_grad_(requires_grad=True)
    source = judged[: len(made.source)]
    parts = {"g_source": o.adversarial_weight * losses.gan_loss(source, o.gan, 1.0)}
    if target is not None:
        weight = o.adversarial_weight * o.target_weight
        parts["g_target"] = weight * losses.gan_loss(judged[len(source) :], o.gan, 1.0)
    return parts


def identity_parts(
    networks: Networks, options: TrainOptions, made: Seen, good: Seen, labels: Tensor, *, game: bool
) -> Parts:
    """(7) and (8) of translated source faces: the teacher's direction, V's direction, the class.

    And what the teacher's stages see, which tells the generator where in the picture it errs.

    Args:
        networks: the verifier's classifier is used.
        options: weights.
        made: what V sees in the translated source faces.
        good: in the good ones.
        labels: (B,) classes.
        game: pretraining is over.
    """
    o = options
    parts: Parts = {}
    if o.identity_weight:
        parts["identity"] = o.identity_weight * losses.identity_loss(made.teacher, good.teacher)
    if o.feature_weight:
        parts["feature"] = o.feature_weight * losses.feature_loss(made.maps, good.maps)
    if o.consistency_weight:
        parts["consistency"] = o.consistency_weight * losses.identity_loss(made.own, good.own)
    if game and o.classification_weight:
        logits = networks.verifier.logits(made.own)
        parts["classification"] = o.classification_weight * losses.classification_loss(
            logits, labels
        )
    return parts


def verifier_parts(
    networks: Networks, options: TrainOptions, made: Seen, good: Seen, labels: Tensor
) -> Parts:
    """(8) for V: the good faces' class, and centres of good and translated faces."""
    verifier = networks.verifier
    parts = {"v_class": losses.classification_loss(verifier.logits(good.own), labels)}
    if options.centre_weight:
        features, both = torch.cat([good.own, made.own]), torch.cat([labels, labels])
        parts["centre"] = options.centre_weight * losses.centre_loss(
            features, verifier.centres, both
        )
    return parts


def total_of(parts: Parts) -> Tensor:
    """Their sum."""
    return torch.stack([value.float() for value in parts.values()]).sum()


@torch.no_grad()
def adaptor_accuracy(adaptor: Adaptor, bottleneck: Tensor, options: TrainOptions) -> float:
    """How often A names the domain of (2B,C,7,7), source first; 0.5 is what is wanted."""
    middle = 0.0 if options.adaptor == "bce" else sum(options.labels_of_domains()) / 2
    source, target = adaptor(bottleneck.float()).chunk(2)
    return float(torch.cat([source > middle, target < middle]).float().mean())
