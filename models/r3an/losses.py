"""R3AN's losses (spec, section 4): reconstruction, adversarial, representation and regression.

The discriminator's logit z belongs to D' = P(real). The seed prints -log(1 - D(G(X))) for the
generator, which is the usual non-saturating loss where D is P(generated) = 1 - D'.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

Distance = Literal["l2", "mse"]
"""l2: the printed norm, not squared; mse: squared."""

TINY = 1e-8
"""Under the root, whose gradient is not a number at exactly 0."""


def distance(given: Tensor, wanted: Tensor, kind: Distance) -> Tensor:
    """Mean over the batch of how far (B,...) are apart, per number: 1 for a difference of 1 in all.

    Serves L_Rec on faces and L_Rep and L_Reg on scaled vectors; the root of the mean of squares is
    the norm over the root of the count.
    """
    squares = (given.float() - wanted.float()).square().flatten(1).mean(dim=1)
    return squares.mean() if kind == "mse" else torch.sqrt(squares + TINY).mean()


def discriminator_loss(real: Tensor, made: Tensor) -> Tensor:
    """L_D of (B,1) logits of real and of generated faces; no gradient should reach G."""
    return F.softplus(-real.float()).mean() + F.softplus(made.float()).mean()


def adversarial_loss(made: Tensor) -> Tensor:
    """L_Adv of (B,1) logits of generated faces: descending it makes them look real to D."""
    return F.softplus(-made.float()).mean()


def cosine_loss(given: Tensor, wanted: Tensor) -> Tensor:
    """1 - cosine of (B,d) vectors, mean over the batch."""
    return (1 - F.cosine_similarity(given.float(), wanted.float(), dim=1)).mean()


def contrast_loss(
    given: Tensor, wanted: Tensor, others: Tensor, alike: Tensor, temperature: float
) -> Tensor:
    """InfoNCE: the own target must be the nearest among targets, which is rank-1 itself.

    Args:
        given: (B,d) mapped vectors of unit length.
        wanted: (B,d) their targets, of unit length.
        others: (M,d) targets of other faces, of unit length.
        alike: (B,M) True where a face of `others` shows the same person; it is left out.
        temperature: of the cosines.
    """
    own = (given * wanted).sum(dim=1, keepdim=True)
    far = (given @ others.T).masked_fill(alike, -1e4)
    logits = torch.cat([own, far], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(given), dtype=torch.long, device=given.device))
