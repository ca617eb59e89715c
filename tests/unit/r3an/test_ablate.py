import io
import json
from pathlib import Path

import pytest
import typer
from rich.console import Console
from torch import nn
from typer.testing import CliRunner

from models.r3an import linear
from models.r3an.ablate import BASELINE, RIDGE, Judge, outcome_table
from models.r3an.mappers import AffineMap
from models.r3an.options import ARCHITECTURES
from models.r3an.train import NAN
from models.r3an.vectors import Pairs
from services.cli import train_r3an
from tests.unit.r3an.conftest import toy_pairs


def fitted(pairs: Pairs, share: float) -> nn.Module:
    """Ridge regression, on the first of the training faces."""
    source, target, _ = pairs.learned()
    rows = max(2, round(share * len(source)))
    return AffineMap(linear.ridge(source[:rows], target[:rows])).eval()


def test_a_gain_is_of_the_same_pairs_and_surer_than_both_rows() -> None:
    pairs = toy_pairs(noise=0.2)
    judge = Judge(pairs, resamples=100)
    poor = judge.of(BASELINE, fitted(pairs, 0.05))
    same = judge.of("the same", fitted(pairs, 0.05))
    good = judge.of("good", fitted(pairs, 1.0))
    assert poor.gain is None
    assert same.gain is not None
    assert (same.gain.estimate, same.gain.low, same.gain.high) == (0, 0, 0)
    assert good.gain is not None
    more = good.rank1["map|T"].estimate - poor.rank1["map|T"].estimate
    assert more > 0.05
    assert good.gain.estimate == pytest.approx(more)
    widths = [row.rank1["map|T"].high - row.rank1["map|T"].low for row in (poor, good)]
    assert 0 < good.gain.high - good.gain.low < sum(widths)


def test_a_row_that_diverged_is_shown_as_such(pairs: Pairs) -> None:
    judge = Judge(pairs, resamples=10)
    outcomes = [*judge.first(), judge.of("Arch7", None)]
    assert [outcome.name for outcome in outcomes] == ["S|S", "T|T", RIDGE, "Arch7"]
    shown = io.StringIO()
    Console(width=120, file=shown).print(outcome_table(outcomes, "a -> b"))
    last = next(line for line in shown.getvalue().splitlines() if "Arch7" in line)
    assert NAN in last


def test_rows_are_trained_measured_and_not_trained_again(
    home: Path, crops_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIEN_HOME", str(home))
    monkeypatch.setenv("MIEN_ENGINE__PREFERENCE", "onnxruntime")
    chosen = {name: ARCHITECTURES[name] for name in ("FC", "Arch3")}
    monkeypatch.setattr(train_r3an, "ARCHITECTURES", chosen)
    app = typer.Typer()
    app.command()(train_r3an.ablate)
    asked = ["--source", "old", "--target", "new", "--images", str(crops_folder)]
    asked += ["--out", str(tmp_path), "--trust-labels", "--epochs", "0.1"]
    first = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert first.exit_code == 0, first.output
    rows = json.loads((tmp_path / "ablation.json").read_text())["outcomes"]
    assert [row["name"] for row in rows] == ["S|S", "T|T", RIDGE, "FC", "Arch3"]
    assert set(rows[-1]["rank1"]) == {"map|T", "T|map"}
    assert rows[-1]["gain"] is not None
    made = (tmp_path / "Arch3" / "losses.csv").read_bytes()
    again = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert again.exit_code == 0, again.output
    assert json.loads((tmp_path / "ablation.json").read_text())["outcomes"] == rows
    assert (tmp_path / "Arch3" / "losses.csv").read_bytes() == made
