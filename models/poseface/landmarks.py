"""Landmarks as pose supervision: normalisation and the autoencoder that turns them into a code.

The autoencoder is trained first, on landmarks alone, and frozen: its code carries what the
landmarks carry and nothing of the person's appearance.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

HIDDEN = 128
CODE_FOR_POINTS = {5: 8, 68: 64, 106: 64}
"""Code width per number of landmarks: for the ten numbers of five points 64 is no bottleneck."""


def normalise_landmarks(points: Tensor) -> Tensor:
    """Centre at the mean and divide by the root-mean-square radius, one factor for both axes.

    One factor keeps the foreshortening by which yaw shows. In-plane roll is kept.

    Args:
        points: (B,K,2), pixels.

    Returns:
        (B,2K): x1, y1, x2, y2, ..., without unit.
    """
    centred = points.float() - points.float().mean(dim=1, keepdim=True)
    radius = centred.square().sum(dim=2).mean(dim=1).clamp(min=1e-12).sqrt()
    return (centred / radius[:, None, None]).flatten(1)


class LandmarkAutoencoder(nn.Module):
    """2K -> 128 -> code -> 128 -> 2K with batch norm and PReLU on the hidden layers.

    Args:
        points: K, landmarks per face.
        code: width of the linear code; `CODE_FOR_POINTS` when not given.
    """

    def __init__(self, points: int, code: int | None = None):
        super().__init__()
        self.points = points
        self.code = code if code is not None else CODE_FOR_POINTS[points]
        self.encoder = _perceptron(2 * points, self.code)
        self.decoder = _perceptron(self.code, 2 * points)

    def encode(self, landmarks: Tensor) -> Tensor:
        """(B,2K) normalised landmarks -> (B,code)."""
        out: Tensor = self.encoder(landmarks)
        return out

    def forward(self, landmarks: Tensor) -> Tensor:
        """(B,2K) -> (B,2K) reconstruction."""
        out: Tensor = self.decoder(self.encode(landmarks))
        return out

    @torch.no_grad()
    def standardise(self, landmarks: Tensor) -> None:
        """Give the code zero mean and unit variance over (N,2K) landmarks.

        The decoder is changed to match, so the reconstruction stays what it was. A code of known
        size makes the weight of the pose loss mean the same in every run.
        """
        codes = self.encode(landmarks)
        mean, spread = codes.mean(dim=0), codes.std(dim=0).clamp(min=1e-6)
        out, back = self.encoder[-1], self.decoder[0]
        if not isinstance(out, nn.Linear) or not isinstance(back, nn.Linear):
            raise TypeError("the code is made and read by linear layers")
        out.weight.div_(spread[:, None])
        out.bias.sub_(mean).div_(spread)
        back.bias.add_(back.weight @ mean)
        back.weight.mul_(spread)

    def freeze(self) -> LandmarkAutoencoder:
        """No gradients and no batch-norm updates from here on."""
        self.requires_grad_(requires_grad=False)
        return self.eval()

    def train(self, mode: bool = True) -> LandmarkAutoencoder:
        """As usual, but a frozen autoencoder stays in evaluation mode."""
        frozen = not any(p.requires_grad for p in self.parameters())
        super().train(mode and not frozen)
        return self


def _perceptron(wide_in: int, wide_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(wide_in, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.PReLU(), nn.Linear(HIDDEN, wide_out)
    )


def reconstruction_loss(original: Tensor, rebuilt: Tensor) -> Tensor:
    """Squared distance per face, averaged over the batch: two (B,2K) -> scalar."""
    return (original - rebuilt).square().sum(dim=1).mean()


def pretrain_autoencoder(
    landmarks: Tensor,
    points: int,
    code: int | None = None,
    epochs: int = 50,
    batch: int = 1024,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> tuple[LandmarkAutoencoder, float]:
    """Train the autoencoder and freeze it.

    Args:
        landmarks: (N,2K), normalised.
        points: K.
        code: see `LandmarkAutoencoder`.
        epochs: passes over the landmarks.
        batch: faces per step; the last, smaller batch of a pass is dropped.
        learning_rate: Adam's.
        seed: for weights and order.

    Returns:
        The frozen autoencoder and its mean squared error per coordinate over all landmarks.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LandmarkAutoencoder(points, code)
        optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
        size = min(batch, len(landmarks))
        for _ in range(epochs):
            for rows in torch.split(torch.randperm(len(landmarks)), size):
                if len(rows) < size:
                    continue
                chunk = landmarks[rows]
                loss = reconstruction_loss(chunk, model(chunk))
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                optimiser.step()
    model.freeze()
    model.standardise(landmarks)
    with torch.no_grad():
        error = (model(landmarks) - landmarks).square().mean()
    return model, float(error)
