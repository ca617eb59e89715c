"""Sample sheets: each person's image, then that person made in every pose of the code."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.drgan.network import Decoder
from models.drgan.poses import YawBins

GAP = 2
SHEET_PEOPLE = 8


def pose_codes(bins: Tensor, yaw: Tensor, decoder: Decoder) -> Tensor:
    """What the decoder takes: one-hot bins (B,Np), or yaw in radians (B,1) in "tpami18"."""
    if decoder.pose_layer is not None:
        return torch.deg2rad(yaw.float())[:, None]
    return F.one_hot(bins, decoder.codes).float()


@torch.no_grad()
def rotations(decoder: nn.Module, features: Tensor, bins: YawBins) -> Tensor:
    """Every person in every pose, without noise.

    Args:
        decoder: in evaluation mode.
        features: (B,320).
        bins: of the pose code.

    Returns:
        (B,Np,3,96,96) in (-1,1).
    """
    if not isinstance(decoder, Decoder):
        raise TypeError("rotations are made by a decoder")
    count = len(bins)
    every = torch.arange(count, device=features.device)
    yaw = torch.tensor(bins.centres, device=features.device)
    rows = []
    for feature in features:
        noise = torch.zeros(count, decoder.noise, device=features.device)
        rows.append(decoder(feature.expand(count, -1), pose_codes(every, yaw, decoder), noise))
    return torch.stack(rows)


@torch.no_grad()
def invented_sheet(
    encoder: nn.Module, decoder: Decoder, features: Tensor, bins: YawBins, path: Path, seed: int = 0
) -> None:
    """A sheet of people who do not exist, for cards and docs.

    Features are drawn from the normal distribution that real ones have; each is made into a
    frontal face, which is then encoded and turned as if it were a photograph.

    Args:
        encoder: in evaluation mode.
        decoder: likewise.
        features: (N,320) of many people, for mean and covariance; at least 2.
        bins: of the pose code.
        path: PNG or JPEG.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    known = features.double().numpy()
    drawn = rng.multivariate_normal(known.mean(axis=0), np.cov(known.T), SHEET_PEOPLE)
    invented = rotations(decoder, torch.from_numpy(drawn).float(), bins)[:, bins.frontal]
    write_sheet(path, invented, rotations(decoder, encoder(invented).feature, bins))


def write_sheet(path: Path, given: Tensor | None, made: Tensor) -> None:
    """Writes the sheet as a picture.

    Args:
        path: PNG or JPEG.
        given: (B,3,96,96) the persons' images for the first column; None for a sheet without.
        made: (B,Np,3,96,96).
    """
    if given is not None:
        made = torch.cat([given[:, None], made], dim=1)
    lines = [np.concatenate([_framed(face) for face in row], axis=1) for row in made.cpu()]
    cv2.imwrite(str(path), np.concatenate(lines, axis=0)[..., ::-1])


def _framed(face: Tensor) -> npt.NDArray[np.uint8]:
    levels = ((face.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    picture = levels.permute(1, 2, 0).numpy()
    return np.pad(picture, ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)
