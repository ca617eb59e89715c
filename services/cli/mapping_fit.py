"""The work of `mien mapping fit`; imports torch, so the command imports it when it is asked for."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import typer
from rich.console import Console

from models.r3an.candidates import (
    EARLIER,
    KINDS,
    LONG,
    QUICK,
    TITLES,
    Candidate,
    Kind,
    Workshop,
)
from models.r3an.fit import (
    MAP_FILE,
    Entry,
    best_of,
    enter,
    facts_of,
    finish,
    forms,
    write_facts,
)
from models.r3an.measure import STRICT_FMR
from models.r3an.options import Profile
from models.r3an.report import Origin, card_of, readme, write_figures
from models.r3an.vectors import SplitOptions
from models.training.errors import TrainingError
from models.zoo import write_card
from services.cli.mapping_data import MappingData, mapping_data
from services.evaluation import PairsError
from services.evaluation.record import hardware

_FIRST = "first"
"""Folder, in that of the fit, of what is made of the faces as they are."""


@dataclass(frozen=True)
class Plan:
    """What to fit.

    Attributes:
        source: embedder, as name or name@version.
        target: likewise.
        images: training faces.
        out: folder of the fit.
        cache: folder for decoded faces and vectors.
        profile: of R3AN's training.
        only: candidates; all but the `EARLIER` ones if none.
        views: changed views beside crop and mirror image.
        blends: faces blended from each training face and another.
        r3an: changes to R3AN's profile.
        mlp: changes to the training of the maps of vectors.
        fmr: of the verdict.
        data: what the faces are, in words.
        trust_labels: take the people's labels as they are.
    """

    source: str
    target: str
    images: Path
    out: Path
    cache: Path
    profile: str
    only: tuple[str, ...]
    views: int
    blends: int
    r3an: dict[str, Any]
    mlp: dict[str, Any]
    fmr: float
    data: str
    trust_labels: bool

    def kinds(self) -> tuple[Kind, ...]:
        """The candidates asked for, in their own order.

        Raises:
            typer.BadParameter: a name is none of them.
        """
        unknown = set(self.only) - set(KINDS)
        if unknown:
            raise typer.BadParameter(f"--only: {min(unknown)} is none of {', '.join(KINDS)}")
        if self.profile not in get_args(Profile):
            raise typer.BadParameter("--profile: it is cpu or gpu")
        wanted = self.only or set(KINDS).difference(EARLIER)
        return tuple(kind for kind in KINDS if kind in wanted)

    def first(self) -> Plan | None:
        """What is fitted to the faces as they are before they are embedded in more views."""
        quick = tuple(kind for kind in self.kinds() if kind in QUICK)
        if not quick or not (self.views or self.blends):
            return None
        return replace(self, only=quick, views=0, blends=0)

    def command(self) -> str:
        """What repeats the fit."""
        said = [
            f"mien mapping fit --source {self.source} --target {self.target}",
            f"--images {self.images.parent.name}/{self.images.name} --profile {self.profile}",
            *(f"--only {kind}" for kind in self.only),
        ]
        said += [f"--views {self.views}", f"--blends {self.blends}"]
        if "epochs" in self.r3an:
            said.append(f"--epochs {self.r3an['epochs']:g}")
        if self.r3an.get("limit"):
            said.append(f"--limit {self.r3an['limit']}")
        if self.trust_labels:
            said.append("--trust-labels")
        if "epochs" in self.mlp:
            said.append(f"--mlp-epochs {self.mlp['epochs']:g}")
        if self.mlp.get("seed", 1) != 1:
            said.append(f"--seed {self.mlp['seed']}")
        return " ".join(said)


def fit(plan: Plan) -> dict[str, Any]:
    """Makes the candidates, releases the best and writes the report; returns its numbers.

    Before more views of the faces are embedded, and before a candidate whose training is long, the
    best so far is released: a fit that is killed leaves a map to use.

    Raises:
        PairsError: the data or the folder cannot be used; the message says why.
    """
    console = Console(stderr=True)
    first = plan.first()
    if first is not None and not (plan.out / MAP_FILE).is_file():
        more = f"any of them on {plan.views} changed views and {plan.blends} blends of each face"
        _fit(first, plan.out / _FIRST, plan.kinds(), more, console)
    return _fit(plan, plan.out, (), "", console)


def _fit(
    plan: Plan, made: Path, later: tuple[Kind, ...], more: str, console: Console
) -> dict[str, Any]:
    """Fits what a plan asks for.

    Args:
        plan: what to fit.
        made: folder of the candidates' trainings.
        later: candidates that are still to be made when all of the plan's are.
        more: the same in words.
        console: where progress goes.
    """
    try:
        data = mapping_data(
            plan.source,
            plan.target,
            plan.images,
            plan.cache,
            SplitOptions(),
            plan.views,
            plan.blends,
            trust_labels=plan.trust_labels,
        )
        pairs = data.pairs
        if min(len(pairs.calibration), len(pairs.test)) < 2 or not len(pairs.train):
            raise PairsError(f"{plan.images} holds too few people to hold some out.")
        workshop = Workshop(
            pairs,
            data.faces,
            made,
            plan.cache,
            data.facts(),
            "gpu" if plan.profile == "gpu" else "cpu",
            plan.r3an,
            plan.mlp,
            console,
        )
        release = _Release(plan, data, console)
        kinds = plan.kinds()
        for number, kind in enumerate(kinds):
            if kind in LONG and number:
                left = kinds[number:]
                release.write(left, " and ".join(TITLES[one] for one in left))
            release.add(workshop.make(kind))
        return release.write(later, more)
    except (TrainingError, ValueError) as error:
        raise PairsError(str(error)) from error


class _Release:
    """Candidates as they are made, and the best of them in the folder of the fit."""

    def __init__(self, plan: Plan, data: MappingData, console: Console):
        self._plan, self._data, self._console = plan, data, console
        self._entries: list[Entry] = []
        self._forms: dict[Kind, list[Entry]] = {}

    def add(self, candidate: Candidate) -> None:
        """Measures a candidate."""
        entry = enter(self._data.pairs, candidate)
        self._entries.append(entry)
        self._tell(candidate.kind, entry)

    def write(self, left: tuple[Kind, ...], missing: str) -> dict[str, Any]:
        """Report and figures first; map and card last, together.

        Args:
            left: candidates that are still to be made.
            missing: the same in words.

        Returns:
            What `fit.json` says.
        """
        plan, data, pairs = self._plan, self._data, self._data.pairs
        done = finish(pairs, self._with_forms(), plan.out, plan.fmr)
        origin = Origin(data.source, data.target, plan.data, plan.command(), hardware())
        about = {**data.facts(), **pairs.facts(), "command": origin.command, "left": list(left)}
        facts = facts_of(done, about)
        write_facts(plan.out / "fit.json", facts)
        write_figures(plan.out, done, pairs)
        report = readme(done, pairs, origin, missing)
        (plan.out / "README.md").write_text(report, encoding="utf-8")
        shutil.copyfile(done.exported.path, plan.out / MAP_FILE)
        write_card(plan.out / "card.json", card_of(done, origin))
        if left:
            best = done.best.candidate.kind
            self._console.print(f"released so far: {best}; still to be tried: {missing}")
        return facts

    def _with_forms(self) -> list[Entry]:
        """All candidates, and the other forms of the best of them."""
        best = best_of(self._entries).candidate
        if best.kind not in self._forms:
            pairs, seed = self._data.pairs, self._plan.mlp.get("seed", 1)
            self._forms[best.kind] = [enter(pairs, made) for made in forms(pairs, best, seed)]
            for entry in self._forms[best.kind]:
                self._tell(f"{best.kind}, {entry.candidate.kind}", entry)
        return [*self._entries, *self._forms[best.kind]]

    def _tell(self, name: str, entry: Entry) -> None:
        self._console.print(f"{name}: {_shown(entry)}")


def _shown(entry: Entry) -> str:
    if entry.choice is None:
        return "diverged"
    found = entry.choice
    return (
        f"rank-1 {found.rank1:.3f}, TAR {found.strict:.3f} at FMR {STRICT_FMR:g} on the "
        "calibration people"
    )
