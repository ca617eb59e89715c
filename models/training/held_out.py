"""Pairs of held-out faces of which one is altered: degraded, restored, translated.

The other face of a pair is always the good one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.evaluation.rates import threshold_at_fmr
from models.training.faces import BORDER, CROP_SIDE, Faces, Ints
from models.training.gains import Gain, verification_gains
from models.training.validation import (
    MAX_IMPOSTORS,
    Validation,
    Verification,
    verify,
)

Bytes = npt.NDArray[np.uint8]

BATCH = 64
CARD_FMR = 1e-3
"""Whose threshold is taken for false matches: a server's default."""

CENTRAL = slice(BORDER, CROP_SIDE - BORDER)


class AlteredPairs:
    """The held-out faces, prepared once.

    Args:
        faces: the data.
        validation: held-out pairs with the verifier's features of the good faces.
        verifier: (B,3,112,112) RGB 0-255 -> (B,d), in evaluation mode.
        limit: first people with so many faces alone; 0 is all.
    """

    def __init__(self, faces: Faces, validation: Validation, verifier: nn.Module, limit: int = 0):
        kept = _first_people(np.array(faces.people)[validation.rows], limit)
        rows: Ints = validation.rows[kept]
        self.validation = Validation(faces, rows, validation.teacher[torch.from_numpy(kept)])
        self.people = np.array(faces.people)[rows]
        self.rows, self.verifier = rows, verifier
        self.crops = np.ascontiguousarray(faces.crops[rows][:, CENTRAL, CENTRAL])
        first, second = np.divmod(self.validation.bins["all"], len(rows))
        # Either face of a pair may be the altered one.
        self.first = np.concatenate([first, second])
        self.second = np.concatenate([second, first])
        self.same = np.tile(self.validation.same[self.validation.bins["all"]], 2)

    @property
    def good(self) -> Tensor:
        """(N,d) unit features of the good faces."""
        return self.validation.teacher

    def clean(self) -> Verification:
        """Both faces of a pair good."""
        return self.verify(self.good)

    def scores(self, altered: Tensor) -> npt.NDArray[np.float32]:
        """(P,) cosines of good faces and altered ones, whose (N,d) unit features are given."""
        cosines = (self.good @ altered.T).numpy()
        return np.asarray(cosines[self.first, self.second], dtype=np.float32)

    def verify(self, altered: Tensor) -> Verification:
        """Figures of faces altered in one way."""
        return verify(self.scores(altered), self.same)

    def false_matches(self, altered: Tensor) -> float:
        """Share of impostor pairs with an altered face that the good faces' threshold lets through.

        The threshold is the one at which good faces have a false-match rate of 1e-3: what a card's
        threshold is fitted on. Above 1e-3, altered faces need a stricter one.
        """
        good, scores = self.scores(self.good), self.scores(altered)
        return _share_above(scores[~self.same], threshold_at_fmr(good[~self.same], CARD_FMR))

    def gains(self, base: Tensor, made: Tensor, resamples: int) -> list[Gain]:
        """What faces altered in the second way gain over those altered in the first."""
        impostors = np.random.default_rng(0).permutation(np.flatnonzero(~self.same))
        chosen = np.concatenate([np.flatnonzero(self.same), impostors[:MAX_IMPOSTORS]])
        return verification_gains(
            self.scores(base)[chosen],
            self.scores(made)[chosen],
            self.same[chosen],
            self.people[self.first[chosen]],
            self.people[self.second[chosen]],
            resamples,
        )


@torch.no_grad()
def embed(verifier: nn.Module, pictures: Bytes, device: torch.device) -> Tensor:
    """(N,112,112,3) uint8 RGB -> (N,d) unit features, fp32, on the CPU."""
    parts = []
    for start in range(0, len(pictures), BATCH):
        block = torch.from_numpy(pictures[start : start + BATCH]).to(device)
        parts.append(verifier(block.permute(0, 3, 1, 2).float()).float().cpu())
    return F.normalize(torch.cat(parts))


def _share_above(scores: npt.NDArray[np.float32], threshold: float) -> float:
    return float((scores >= threshold).mean()) if len(scores) else float("nan")


def _first_people(people: npt.NDArray[np.str_], limit: int) -> npt.NDArray[np.intp]:
    """Positions of whole people, in the order of their names, until there are `limit` faces."""
    order = np.argsort(people, kind="stable")
    if not limit or limit >= len(people):
        return np.sort(order)
    last = people[order[limit - 1]]
    return np.flatnonzero(people <= last)
