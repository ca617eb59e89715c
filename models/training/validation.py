"""Verification on held-out people, by pose, beside the teacher on the same pairs.

All pairs of the held-out faces are compared. Scores are cosines. `accuracy` is the mean of the true
acceptance and the true rejection rate at the best threshold, because genuine pairs are rare among
all pairs; `tar` is the true acceptance rate at a false-match rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.evaluation.bootstrap import Interval
from models.evaluation.intervals import tar_interval
from models.evaluation.rates import tar_at_fmr
from models.training.faces import Faces, Ints

YAW_EDGES = (0.0, 15.0, 30.0, 45.0, 90.0)
"""Bins of a pair's larger |yaw|, degrees."""

SAME_PERSON_AFTER_ALL = 0.75
"""Impostor pairs whose people the teacher holds for one (mean cosine) are left out."""

RIDGE = 1e-3

BINS = ("cfp frontal-profile", "cfp frontal-frontal", "yaw 0-15", "yaw 45-90")
TARGET_FMR = 1e-2
RESAMPLES = 300
MAX_IMPOSTORS = 60_000
"""Impostor pairs per bin in the intervals; enough for a false-match rate of 1e-2."""


@dataclass(frozen=True)
class Verification:
    """One line of a table.

    Attributes:
        pairs: genuine and impostor pairs behind it.
        accuracy: balanced, at the best threshold.
        tar_1e2: true acceptance rate at a false-match rate of 1e-2.
        tar_1e3: at 1e-3.
        genuine: mean cosine of the genuine pairs.
    """

    pairs: tuple[int, int]
    accuracy: float
    tar_1e2: float
    tar_1e3: float
    genuine: float


def verify(scores: npt.NDArray[np.float32], same: npt.NDArray[np.bool_]) -> Verification:
    """Figures of (P,) scores with (P,) truth; NaN where a kind of pair is missing."""
    genuine, impostor = np.sort(scores[same]), np.sort(scores[~same])
    counts = (len(genuine), len(impostor))
    if not all(counts):
        return Verification(counts, *(float("nan"),) * 4)
    thresholds = np.unique(scores)
    accepted = 1 - np.searchsorted(genuine, thresholds) / counts[0]
    rejected = np.searchsorted(impostor, thresholds) / counts[1]
    return Verification(
        counts,
        float((accepted + rejected).max() / 2),
        tar_at_fmr(genuine, impostor, 1e-2).tar,
        tar_at_fmr(genuine, impostor, 1e-3).tar,
        float(genuine.mean()),
    )


class Validation:
    """The held-out pairs, prepared once.

    Args:
        faces: the data.
        rows: (V,) held-out rows.
        teacher: (V,d) the teacher's unit features of them.
    """

    def __init__(self, faces: Faces, rows: Ints, teacher: Tensor):
        self.rows = rows
        self.teacher = F.normalize(teacher)
        self.yaw = faces.euler[rows, 1]
        names, person = np.unique(np.array(faces.people)[rows], return_inverse=True)
        self.sets = faces.sources()[rows]
        same = person[:, None] == person[None]
        yaw = np.nan_to_num(np.abs(self.yaw))
        wider = np.maximum(yaw[:, None], yaw[None])
        upper = np.triu(np.ones_like(same), 1) & ~self._twins(person, len(names))
        self.bins: dict[str, npt.NDArray[np.intp]] = {}
        self.same = same.ravel()
        for low, high in pairwise(YAW_EDGES):
            inside = upper & (wider >= low) & (wider < high)
            self.bins[f"yaw {low:.0f}-{high:.0f}"] = np.flatnonzero(inside)
        if (self.sets == "cfp").any():
            cfp = (self.sets == "cfp")[:, None] & (self.sets == "cfp")[None]
            profile = np.array(["/profile/" in faces.paths[row] for row in rows])
            mixed = profile[:, None] != profile[None]
            neither = ~profile[:, None] & ~profile[None]
            self.bins["cfp frontal-profile"] = np.flatnonzero(upper & cfp & mixed)
            self.bins["cfp frontal-frontal"] = np.flatnonzero(upper & cfp & neither)
        self.bins["all"] = np.flatnonzero(upper)

    def _twins(self, person: npt.NDArray[np.intp], people: int) -> npt.NDArray[np.bool_]:
        """(V,V) pairs of two labels that the teacher takes for one person."""
        centres = torch.zeros(people, self.teacher.shape[1])
        centres.index_add_(0, torch.from_numpy(person), self.teacher)
        centres = F.normalize(centres)
        alike = (centres @ centres.T).numpy() > SAME_PERSON_AFTER_ALL
        np.fill_diagonal(alike, val=False)
        return np.asarray(alike[person][:, person])

    def figures(self, identity: Tensor) -> dict[str, Verification]:
        """Figures per bin for (V,d) identity features of the held-out rows."""
        unit = F.normalize(identity.float())
        scores = (unit @ unit.T).numpy().ravel()
        return {name: verify(scores[pairs], self.same[pairs]) for name, pairs in self.bins.items()}


def tar_intervals(
    validation: Validation, people: npt.NDArray[np.str_], identity: Tensor
) -> dict[str, Interval]:
    """TAR at a false-match rate of 1e-2 per bin for (V,d) features, with intervals over people.

    Args:
        validation: the held-out pairs.
        people: (V,) who each held-out face shows.
        identity: (V,d).
    """
    unit = F.normalize(identity.float())
    scores = (unit @ unit.T).numpy().ravel()
    found = {}
    for name in BINS:
        pairs = validation.bins.get(name, np.empty(0, dtype=np.intp))
        same = validation.same[pairs]
        if not same.any() or same.all():
            continue
        impostors = pairs[~same]
        chosen = np.random.default_rng(0).permutation(impostors)[:MAX_IMPOSTORS]
        pairs = np.concatenate([pairs[same], chosen])
        first, second = np.divmod(pairs, len(people))
        found[name] = tar_interval(
            scores[pairs],
            validation.same[pairs],
            people[first],
            people[second],
            TARGET_FMR,
            RESAMPLES,
        )
    return found


def shown(span: Interval | None) -> str:
    """An interval as a table's cell."""
    if span is None:
        return "-"
    return f"{span.estimate:.3f} \\[{span.low:.3f}, {span.high:.3f}]"


def probe_r2(features: Tensor, target: npt.NDArray[np.float32], folds: int = 2) -> float:
    """How well a ridge regression reads `target` from features: R2 on faces it was not fitted to.

    Args:
        features: (N,d).
        target: (N,); rows with NaN are left out.
        folds: interleaved parts; each is predicted from the others.
    """
    known = np.isfinite(target)
    x = features.double().numpy()[known]
    y = target[known].astype(np.float64)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-9)
    x = np.column_stack([x, np.ones(len(x))])
    part = np.arange(len(y)) % folds
    predicted = np.empty_like(y)
    for fold in range(folds):
        fit = part != fold
        gram = x[fit].T @ x[fit] + RIDGE * fit.sum() * np.eye(x.shape[1])
        predicted[~fit] = x[~fit] @ np.linalg.solve(gram, x[fit].T @ y[fit])
    return float(1 - ((y - predicted) ** 2).sum() / ((y - y.mean()) ** 2).sum())
