"""What the teacher says of the clean training faces, and what follows from it.

The teacher (SFace, or PoseFace) sees every clean crop and its mirror once; the mean direction of
the two is the face's target. From the targets come class centres, and suspicion of wrong labels.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.training.faces import BORDER, CROP_SIDE, Faces, Ints
from models.training.precision import mixed
from models.training.verifier import FileVerifier

BATCH = 64
CENTRAL = slice(BORDER, CROP_SIDE - BORDER)


@torch.no_grad()
def embed(trunk: torch.nn.Module, crops: npt.NDArray[np.uint8], *, amp: bool = False) -> Tensor:
    """(N,128,128,3) uint8 RGB -> (N,d) features of the central 112x112, fp32, on the CPU."""
    device = next(trunk.parameters()).device
    parts = []
    for start in range(0, len(crops), BATCH):
        block = np.ascontiguousarray(crops[start : start + BATCH, CENTRAL, CENTRAL])
        images = torch.from_numpy(block).to(device).permute(0, 3, 1, 2).float()
        with mixed(device, wanted=amp):
            parts.append(trunk(images).float().cpu())
    return torch.cat(parts)


def teacher_targets(faces: Faces, path: Path, cache: Path) -> Tensor:
    """(N,2,d) unit features of every clean crop and of its mirror, computed once and cached.

    OpenVINO runs the teacher's own file, in fp32 on all cores. The cache is named after the
    weights and the data.
    """
    weights = hashlib.sha256(path.read_bytes()).hexdigest()
    store = cache / f"teacher-{weights[:12]}-{faces.fingerprint[:16]}.npy"
    if store.is_file():
        return torch.from_numpy(np.load(store))
    teacher = FileVerifier(path)
    parts = []
    columns = (TextColumn("teacher"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for start in progress.track(range(0, len(faces), BATCH)):
            block = np.asarray(faces.crops[start : start + BATCH, CENTRAL, CENTRAL])
            pair = [_seen(teacher, block), _seen(teacher, block[:, :, ::-1])]
            parts.append(F.normalize(torch.stack(pair, dim=1), dim=2))
    targets = torch.cat(parts)
    np.save(store, targets.numpy())
    return targets


def _seen(teacher: FileVerifier, crops: npt.NDArray[np.uint8]) -> Tensor:
    images = np.ascontiguousarray(crops.transpose(0, 3, 1, 2), dtype=np.float32)
    features: Tensor = teacher(torch.from_numpy(images))
    return features


def class_centres(targets: Tensor, labels: Ints, classes: int, weights: Tensor) -> Tensor:
    """Unit-length weighted mean direction of each class.

    Args:
        targets: (N,d) unit features.
        labels: (N,) class or -1.
        classes: C.
        weights: (N,) positive; frontal faces are worth more than profiles.

    Returns:
        (C,d); no row is zero as long as every class has a face.
    """
    known = torch.from_numpy(labels >= 0)
    rows = torch.from_numpy(labels)[known]
    centres = torch.zeros(classes, targets.shape[1])
    centres.index_add_(0, rows, targets[known] * weights[known, None])
    return F.normalize(centres)


def doubtful_labels(
    targets: Tensor, people: list[str], floor: float, spared: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Faces that do not look like the rest of their person to the teacher.

    Args:
        targets: (N,d) unit features.
        people: N names, empty for nobody.
        floor: a face is doubtful when its cosine to the mean of the person's other faces is below.
        spared: (N,) faces never doubted, such as profiles from a set with certain labels.

    Returns:
        (N,) True where the label should not be used.
    """
    names, person = np.unique(np.array(people), return_inverse=True)
    index = torch.from_numpy(person)
    total = torch.zeros(len(names), targets.shape[1]).index_add_(0, index, targets)
    others = F.normalize(total[index] - targets)
    cosine = (others * targets).sum(dim=1).numpy()
    counts = np.bincount(person)[person]
    named = np.array([bool(p) for p in people])
    return np.asarray(named & (counts > 1) & (cosine < floor) & ~spared)


def merged_people(targets: Tensor, people: list[str], above: float) -> list[str]:
    """Names with those people united whose mean directions the teacher cannot tell apart.

    Sets overlap: one person may be labelled in two of them, or twice in one.

    Args:
        targets: (N,d) unit features.
        people: N names, empty for nobody.
        above: people with a higher cosine between their means become one, under the first name.
    """
    names, person = np.unique(np.array(people), return_inverse=True)
    centres = torch.zeros(len(names), targets.shape[1])
    centres.index_add_(0, torch.from_numpy(person), targets)
    centres = F.normalize(centres)
    leader = list(range(len(names)))

    def lead(k: int) -> int:
        while leader[k] != k:
            k = leader[k]
        return k

    for start in range(0, len(names), 1024):
        close = (centres[start : start + 1024] @ centres.T > above).nonzero() + torch.tensor(
            [start, 0]
        )
        for first, second in close.tolist():
            if first < second and names[first] and names[second]:
                low, high = sorted((lead(first), lead(second)))
                leader[high] = low
    united = [str(names[lead(k)]) for k in range(len(names))]
    return [united[k] for k in person]
