"""Everything a run needs before its first step: faces, people, targets, landmark code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.poseface.landmarks import (
    LandmarkAutoencoder,
    normalise_landmarks,
    pretrain_autoencoder,
)
from models.poseface.losses import pose_ratio
from models.poseface.options import TrainOptions
from models.training.faces import BORDER, CROP_SIDE, Faces, Ints, Split
from models.training.people import load_people
from models.training.pose import mirror
from models.training.teacher import class_centres, teacher_targets
from models.training.validation import Validation

REPEATED_BEYOND = 30.0
"""|yaw| in degrees from which `repeat_profiles` counts."""

FRONTAL_CENTRE_WEIGHT = 0.1
"""What a full profile adds to its class centre, a frontal face being 1."""


@dataclass(frozen=True)
class Material:
    """What `prepare` hands to the training loop.

    Attributes:
        faces: the data, names merged.
        split: who trains, who validates, classes.
        rows: labelled rows, what every epoch visits.
        nameless: rows outside the softmax, visited for feature keeping.
        targets: (N,d) unit directions to keep to; None without a teacher.
        keep_weights: (N,) in [0,1].
        centres: (C,d) start of the classifier; None without a teacher.
        autoencoder: frozen.
        validation: held-out pairs; None without a teacher or without held-out people.
        facts: for the record of the run.
    """

    faces: Faces
    split: Split
    rows: Ints
    nameless: Ints
    targets: Tensor | None
    keep_weights: Tensor
    centres: Tensor | None
    autoencoder: LandmarkAutoencoder
    validation: Validation | None
    facts: dict[str, Any]


def prepare(
    options: TrainOptions,
    data: Path,
    cache: Path,
    sface: Path | None,
    teacher: Path | None = None,
) -> Material:
    """Load, clean, split, and pretrain the autoencoder; the slow parts are cached in `cache`.

    Args:
        options: of the run.
        data: folder with the training data.
        cache: folder for what is slow.
        sface: SFace's ONNX file: cleans the labels, and is the teacher if there is no other.
        teacher: ONNX file of the network whose features are kept to; it takes the same crops.
    """
    people = load_people(options, data, cache, sface)
    faces, split, clean = people.faces, people.split, people.clean
    if teacher is not None:
        clean = F.normalize(teacher_targets(faces, teacher, cache).sum(dim=1))
    ratio = pose_ratio(torch.from_numpy(faces.euler), options.full_pose, options.ramp)
    autoencoder, error = _autoencoder(options, faces, split)
    targets = centres = None
    if clean is not None:
        weights = 1 - (1 - FRONTAL_CENTRE_WEIGHT) * ratio
        centres = class_centres(clean, split.labels, split.classes, weights)
        targets = _targets(options, clean, split, centres, ratio)
    rows, nameless = _visits(options, faces, split)
    return Material(
        faces=faces,
        split=split,
        rows=rows,
        nameless=nameless,
        targets=targets,
        keep_weights=1 - (1 - options.keep_profile) * ratio,
        centres=centres,
        autoencoder=autoencoder,
        validation=people.validation,
        facts={**people.facts(), "autoencoder_mse": error},
    )


def _targets(
    options: TrainOptions, clean: Tensor, split: Split, centres: Tensor, ratio: Tensor
) -> Tensor:
    """Teacher's direction of the clean face, drawn towards the person's centre, profiles more."""
    labels = torch.from_numpy(split.labels)
    share = options.centre_frontal + (options.centre_profile - options.centre_frontal) * ratio
    share = torch.where(labels >= 0, share, torch.zeros_like(share))[:, None]
    return F.normalize((1 - share) * clean + share * centres[labels.clamp(min=0)])


def _visits(options: TrainOptions, faces: Faces, split: Split) -> tuple[Ints, Ints]:
    """Labelled rows, those beyond 30 degrees `repeat_profiles` times; and the nameless rows."""
    labelled = split.labels[split.train] >= 0
    rows, nameless = split.train[labelled], split.train[~labelled]
    if options.limit:
        rows, nameless = rows[: options.limit], nameless[: max(0, options.limit - len(rows))]
    turned = np.abs(faces.euler[rows, 1]) > REPEATED_BEYOND
    return np.concatenate([rows, *(rows[turned],) * (options.repeat_profiles - 1)]), nameless


def _autoencoder(
    options: TrainOptions, faces: Faces, split: Split
) -> tuple[LandmarkAutoencoder, float]:
    points = faces.points[split.train] - BORDER
    both = np.concatenate([points, mirror(points, CROP_SIDE - 2 * BORDER)])
    return pretrain_autoencoder(
        normalise_landmarks(torch.from_numpy(both)),
        points=options.landmark_points,
        code=options.pose_dim,
        epochs=options.autoencoder_epochs,
        batch=options.autoencoder_batch,
        learning_rate=options.autoencoder_lr,
        seed=options.seed,
    )
