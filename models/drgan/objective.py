"""One step's questions to the networks: which poses are wanted, and the losses of both sides."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models.drgan.batches import Batch
from models.drgan.poses import YawBins

NOBODY = -1


class Wanted(NamedTuple):
    """The faces that a step makes: one for each image, then one for each person's fused feature.

    Attributes:
        labels: (M,) identity that each must show.
        bins: (M,) pose that each must show.
        yaw: (M,) the same in degrees.
        partner: (M,) row of the batch that shows just this, -1 where none does.
    """

    labels: Tensor
    bins: Tensor
    yaw: Tensor
    partner: Tensor


def wanted_faces(batch: Batch, images: int, bins: YawBins, paired: float) -> Wanted:
    """Draws the poses, by torch's own generator.

    A share of the faces is asked for in the pose of another image of the person, so that there is
    something to compare them with; the rest in a pose drawn from all bins alike.

    Args:
        batch: P x n images.
        images: n; for 1 no fused face is made, as it would be the same.
        bins: yaw bins.
        paired: that share, [0,1].
    """
    count = len(batch.labels)
    persons = torch.arange(count) // images
    first = persons * images
    place = torch.arange(count) - first
    # Another image of the same person: one to n-1 places on, around the person's images.
    step = torch.randint(1, images, (count,)) if images > 1 else torch.zeros(count).long()
    partner = first + (place + step) % images
    labels = batch.labels
    if images > 1:
        fused = torch.arange(0, count, images)
        partner = torch.cat([partner, fused + torch.randint(0, images, fused.shape)])
        labels = torch.cat([labels, batch.labels[fused]])
    alone = torch.rand(len(partner)) >= paired
    drawn = torch.randint(0, len(bins), partner.shape)
    centres = torch.tensor(bins.centres)
    pose = torch.where(alone, drawn, batch.bins[partner])
    yaw = torch.where(alone, centres[drawn], batch.yaw[partner])
    return Wanted(labels, pose, yaw, torch.where(alone, NOBODY, partner))


def paired_error(made: Tensor, real: Tensor, partner: Tensor) -> Tensor:
    """Mean squared error of made faces that have a real one to be compared with; 0 for none.

    Args:
        made: (M,3,96,96).
        real: (B,3,96,96).
        partner: (M,) rows of `real`, -1 for none.
    """
    known = partner >= 0
    if not bool(known.any()):
        return made.sum() * 0.0
    return (made[known].float() - real[partner[known]]).square().mean()
