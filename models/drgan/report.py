"""What an encoder is worth on held-out people: verification, fusion, what the weights follow."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from rich.table import Table
from torch import Tensor, nn

from models.drgan.batches import to_tensor
from models.drgan.network import Decoder, Encoded
from models.drgan.poses import YawBins
from models.drgan.sheets import pose_codes
from models.evaluation.fusion import SIZES, FusionPoint, fusion_curve, rank_correlation
from models.training.faces import BORDER, CROP_SIDE, Faces
from models.training.validation import Validation, Verification

FIGURES = [
    "fp_accuracy", "fp_tar_1e2", "ff_accuracy", "ff_tar_1e2", "all_tar_1e3",
    "one_tar_1e2", "six_mean_tar_1e2", "six_weights_tar_1e2", "weight_yaw", "weight_blur",
]  # fmt: skip
"""Columns of validation.csv after the step."""

BATCH = 64
CENTRAL = slice(BORDER, CROP_SIDE - BORDER)
BLURS = (0.0, 1.0, 2.0, 3.0)
"""Sigmas in px, on the 112x112 crop, of the faces that the weight's answer to blur is read from."""

NOWHERE = Verification((0, 0), *(float("nan"),) * 4)
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Measured:
    """All figures of one encoder.

    Attributes:
        bins: verification per bin of held-out pairs.
        teacher: the same for the teacher.
        fusion: per fusion and number of probe images; empty with too few images per person.
        weight_yaw: Spearman's correlation of the fusion weight with |yaw|.
        weight_blur: with the sigma of a blur that is added.
    """

    bins: dict[str, Verification]
    teacher: dict[str, Verification]
    fusion: list[FusionPoint]
    weight_yaw: float
    weight_blur: float

    def figures(self) -> dict[str, float]:
        """Values by the names of `FIGURES`."""
        fp = self.bins.get("cfp frontal-profile", NOWHERE)
        ff = self.bins.get("cfp frontal-frontal", NOWHERE)
        return {
            "fp_accuracy": fp.accuracy,
            "fp_tar_1e2": fp.tar_1e2,
            "ff_accuracy": ff.accuracy,
            "ff_tar_1e2": ff.tar_1e2,
            "all_tar_1e3": self.bins["all"].tar_1e3,
            "one_tar_1e2": self._fused("mean", 1),
            "six_mean_tar_1e2": self._fused("mean", SIZES[-1]),
            "six_weights_tar_1e2": self._fused("weights", SIZES[-1]),
            "weight_yaw": self.weight_yaw,
            "weight_blur": self.weight_blur,
        }

    def _fused(self, fusion: str, images: int) -> float:
        found = [p.tar.estimate for p in self.fusion if (p.fusion, p.images) == (fusion, images)]
        return found[0] if found else float("nan")


class Examination:
    """The held-out faces, prepared once.

    Args:
        faces: the data.
        validation: held-out pairs, with the teacher's features.
    """

    def __init__(self, faces: Faces, validation: Validation):
        self.validation = validation
        self.people = np.array(faces.people)[validation.rows]
        self.crops = np.ascontiguousarray(faces.crops[validation.rows][:, CENTRAL, CENTRAL])

    def of(self, encoder: nn.Module, device: torch.device, resamples: int = 50) -> Measured:
        """Measures an encoder in evaluation mode.

        Args:
            encoder: (B,3,96,96) -> `Encoded`.
            device: where it is.
            resamples: of the fusion's intervals.
        """
        features, weights = encode(encoder, self.crops, device)
        share = weights.numpy()
        fusion: list[FusionPoint] = []
        most = SIZES[-1]
        counts = np.unique(self.people, return_counts=True)[1]
        if (counts > most).sum() > 1:
            fusion = fusion_curve(
                features.numpy(), share, self.people.tolist(), resamples=resamples
            )
        return Measured(
            bins=self.validation.figures(features),
            teacher=self.validation.figures(self.validation.teacher),
            fusion=fusion,
            weight_yaw=rank_correlation(share, np.abs(self.validation.yaw)),
            weight_blur=self._blur(encoder, device),
        )

    def _blur(self, encoder: nn.Module, device: torch.device) -> float:
        some = self.crops[:: max(1, len(self.crops) // (4 * BATCH))]
        shares, sigmas = [], []
        for sigma in BLURS:
            blurred = [cv2.GaussianBlur(c, (0, 0), sigma) if sigma else c for c in some]
            shares.append(encode(encoder, np.stack(blurred), device)[1].numpy())
            sigmas.append(np.full(len(some), sigma))
        return rank_correlation(np.concatenate(shares), np.concatenate(sigmas))


@torch.no_grad()
def encode(
    encoder: nn.Module, crops: npt.NDArray[np.uint8], device: torch.device
) -> tuple[Tensor, Tensor]:
    """(N,112,112,3) uint8 RGB -> features (N,320) and weights (N,), fp32, on the CPU."""
    features, weights = [], []
    for start in range(0, len(crops), BATCH):
        images = to_tensor(list(crops[start : start + BATCH])).to(device)
        encoded: Encoded = encoder(images)
        features.append(encoded.feature.float().cpu())
        weights.append(encoded.weight.float().cpu()[:, 0])
    return torch.cat(features), torch.cat(weights)


@torch.no_grad()
def redrawn(
    encoder: nn.Module, decoder: Decoder, features: Tensor, bins: YawBins, device: torch.device
) -> Tensor:
    """Features of the faces that the decoder draws, frontal, of features.

    The row "synthetic" of the paper's Table 2: what of a person survives the drawing.

    Args:
        encoder: in evaluation mode.
        decoder: likewise.
        features: (N,320).
        bins: of the pose code.
        device: where both are.

    Returns:
        (N,320), on the CPU.
    """
    parts = []
    for start in range(0, len(features), BATCH):
        given = features[start : start + BATCH].to(device)
        front = torch.full((len(given),), bins.frontal, device=device)
        codes = pose_codes(front, torch.zeros(len(given), device=device), decoder)
        noise = torch.zeros(len(given), decoder.noise, device=device)
        encoded: Encoded = encoder(decoder(given, codes, noise))
        parts.append(encoded.feature.float().cpu())
    return torch.cat(parts)


def measured_table(measured: Measured, title: str) -> Table:
    """Per bin: encoder / teacher; fusion in the caption."""
    table = Table(title=f"{title}: encoder / teacher", title_justify="left")
    for name in ("pairs", "genuine", "impostor", "accuracy", "TAR 1e-2", "TAR 1e-3"):
        table.add_column(name, justify="left" if name == "pairs" else "right")
    for name, mine in measured.bins.items():
        theirs = measured.teacher[name]
        table.add_row(
            name,
            str(mine.pairs[0]),
            str(mine.pairs[1]),
            f"{mine.accuracy:.4f} / {theirs.accuracy:.4f}",
            f"{mine.tar_1e2:.4f} / {theirs.tar_1e2:.4f}",
            f"{mine.tar_1e3:.4f} / {theirs.tar_1e3:.4f}",
        )
    lines = [
        f"{p.fusion} of {p.images}: TAR 1e-2 {p.tar.estimate:.4f}"
        for p in measured.fusion
        if p.images in (1, SIZES[-1])
    ]
    lines.append(f"weight with |yaw| {measured.weight_yaw:.3f}, blur {measured.weight_blur:.3f}")
    table.caption = "; ".join(lines)
    return table


def fusion_table(points: list[FusionPoint]) -> Table:
    """TAR with its interval and EER, per fusion and number of probe images."""
    table = Table(title="fusion: TAR at FMR 1e-2 [95 % over people], EER", title_justify="left")
    table.add_column("probe images", justify="right")
    names = list(dict.fromkeys(point.fusion for point in points))
    for name in names:
        table.add_column(name, justify="right")
    for images in dict.fromkeys(point.images for point in points):
        cells = [
            f"{p.tar.estimate:.4f} [{p.tar.low:.4f}, {p.tar.high:.4f}], {p.eer:.4f}"
            for p in points
            if p.images == images
        ]
        table.add_row(str(images), *cells)
    if points:
        one = points[0]
        table.caption = f"{one.people} people, {one.genuine} genuine, {one.impostor} impostor"
    return table
