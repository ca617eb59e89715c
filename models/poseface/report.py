"""Validation figures of a network as a flat row for the CSV and as a table beside the teacher."""

from __future__ import annotations

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.poseface.network import PoseFaceNet
from models.poseface.validate import disentangling
from models.training.faces import Faces
from models.training.teacher import embed
from models.training.validation import Validation, Verification

FIGURES = [
    "fp_accuracy", "fp_tar_1e2", "fp_tar_1e3", "ff_accuracy", "ff_tar_1e3", "all_tar_1e3",
    "frontal_tar_1e3", "frontal_genuine", "profile_genuine", "teacher_cosine",
    "yaw_r2_identity", "yaw_r2_pose", "turn_r2_identity", "turn_r2_pose", "orthogonality",
    "correlation",
]  # fmt: skip
"""Columns of validation.csv after the step; fp and ff are CFP's held-out people."""

NOWHERE = Verification((0, 0), *(float("nan"),) * 4)

Row = tuple[str, Verification, Verification]


class _BothHeads(nn.Module):
    """Identity and pose feature side by side: (B,3,112,112) -> (B,d_id+d_pose)."""

    def __init__(self, network: PoseFaceNet):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        features = self.network(images)
        return torch.cat([features.identity, features.pose], dim=1)


def validation_figures(
    network: PoseFaceNet, faces: Faces, validation: Validation, *, amp: bool
) -> tuple[dict[str, float], list[Row]]:
    """Figures of a network on the held-out faces.

    Returns:
        Values by the names of `FIGURES`, and (bin, network's figures, teacher's figures) rows.
    """
    width = network.identity_head.out_features
    both = embed(_BothHeads(network).eval(), faces.crops[validation.rows], amp=amp)
    identity, pose = both[:, :width], both[:, width:]
    mine, teacher = validation.figures(identity), validation.figures(validation.teacher)
    fp = mine.get("cfp frontal-profile", NOWHERE)
    ff = mine.get("cfp frontal-frontal", NOWHERE)
    cosine = float("nan")
    if identity.shape == validation.teacher.shape:
        cosine = float((F.normalize(identity) * validation.teacher).sum(dim=1).mean())
    figures = {
        "fp_accuracy": fp.accuracy,
        "fp_tar_1e2": fp.tar_1e2,
        "fp_tar_1e3": fp.tar_1e3,
        "ff_accuracy": ff.accuracy,
        "ff_tar_1e3": ff.tar_1e3,
        "all_tar_1e3": mine["all"].tar_1e3,
        "frontal_tar_1e3": mine["yaw 0-15"].tar_1e3,
        "frontal_genuine": mine["yaw 0-15"].genuine,
        "profile_genuine": mine["yaw 45-90"].genuine,
        "teacher_cosine": cosine,
        **disentangling(network, identity, pose, validation.yaw),
    }
    return figures, [(name, mine[name], teacher[name]) for name in mine]


def validation_table(rows: list[Row], figures: dict[str, float], title: str) -> Table:
    """Per bin: network / teacher."""
    table = Table(title=f"{title}: network / teacher", title_justify="left")
    for name in ("pairs", "genuine", "impostor", "accuracy", "TAR 1e-2", "TAR 1e-3", "mean cosine"):
        table.add_column(name, justify="left" if name == "pairs" else "right")
    for name, mine, theirs in rows:
        table.add_row(
            name,
            str(mine.pairs[0]),
            str(mine.pairs[1]),
            f"{mine.accuracy:.4f} / {theirs.accuracy:.4f}",
            f"{mine.tar_1e2:.4f} / {theirs.tar_1e2:.4f}",
            f"{mine.tar_1e3:.4f} / {theirs.tar_1e3:.4f}",
            f"{mine.genuine:.3f} / {theirs.genuine:.3f}",
        )
    table.caption = (
        f"yaw R2: identity {figures['yaw_r2_identity']:.3f}, pose {figures['yaw_r2_pose']:.3f}; "
        f"|yaw|: {figures['turn_r2_identity']:.3f}, {figures['turn_r2_pose']:.3f}; "
        f"orthogonality {figures['orthogonality']:.1e}; correlation {figures['correlation']:.1e}; "
        f"cosine to the teacher {figures['teacher_cosine']:.3f}"
    )
    return table
