import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")
pytest.importorskip("onnx", reason="training needs onnx: pip install mien[train]")
pytest.importorskip("onnxscript", reason="torch's exporter needs onnxscript: mien[train]")

import onnxruntime
from typer.testing import CliRunner

from models.evaluation.bootstrap import Interval
from models.nir_cyclegan import ablate, export
from models.nir_cyclegan.ablate import NOTHING, VARIANTS
from models.nir_cyclegan.export import harms, helps, load_translators
from models.nir_cyclegan.figures import DomainFigures
from models.nir_cyclegan.options import TrainOptions, profile_options
from models.nir_cyclegan.pictures import equalised
from models.nir_cyclegan.recogniser import deal, train_head
from models.training.gains import Gain
from models.training.onnx_export import sample_pictures
from models.zoo.enhancer_card import GainPoint, helps_from

TINY = {
    "holdout_other": 0.0,
    "width": 4, "blocks": 1, "discriminator_width": 4, "batch": 1, "amp": False, "min_images": 1,
    "merge_above": 1.0, "label_floor": -1.0, "workers": 1, "nir_share": 0.7, "validate_faces": 6,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.nir_cyclegan.train.draw", lambda *_: None)  # curves cost seconds
    # The toy people's source is called "toy"; hold some of them out.
    monkeypatch.setattr(TrainOptions, "holdout", lambda _: {"toy": 0.4})


def test_both_files_draw_as_the_averaged_generators_and_say_how_they_are_fed(
    finished_run: Path, data_folder: Path, zoo_poseface: Path, cache: Path, tmp_path: Path
) -> None:
    run = ["--run", str(finished_run), "--out", str(tmp_path)]
    told = CliRunner().invoke(export.app, [*run, "--data", str(data_folder)])
    assert told.exit_code == 2
    assert "needs --start" in told.output
    measure = ["--data", str(data_folder), "--start", str(zoo_poseface), "--cache", str(cache)]
    other = tmp_path / "judge.onnx"
    other.write_bytes(zoo_poseface.read_bytes())
    told = CliRunner().invoke(
        export.app,
        [
            *run,
            *measure,
            "--judge",
            str(other),
            "--resamples",
            "5",
            "--side",
            "112",
            "--side",
            "28",
        ],
    )
    assert told.exit_code == 0, told.output

    translators, _ = load_translators(finished_run)
    pictures = sample_pictures(3, 112).numpy().transpose(0, 2, 3, 1).astype(np.uint8)
    for operation, equal in (("nir2vis", False), ("vis2nir", True)):
        session = onnxruntime.InferenceSession(str(tmp_path / f"{operation}.onnx"))
        given = np.stack([equalised(p) if equal else p for p in pictures])
        image = (given.transpose(0, 3, 1, 2) / 127.5 - 1).astype(np.float32)
        (enhanced,) = session.run(["enhanced"], {"image": image})
        assert enhanced.shape == (3, 3, 112, 112)
        assert np.abs(enhanced).max() <= 1
        assert (enhanced[:, 0] == enhanced[:, 2]).all() == (operation == "vis2nir")
        ours = translators.translate(operation, pictures)  # type: ignore[arg-type]
        theirs = ((enhanced + 1) * 127.5).transpose(0, 2, 3, 1)
        np.testing.assert_allclose(theirs, ours, atol=2)
        assert np.abs(enhanced - image).mean() > 0.01

    facts = json.loads((tmp_path / export.GAIN_FILE).read_text())
    assert (facts["he"], facts["perc"], facts["near_infrared"]) == (
        "vis_domain", "face", "simulated",
    )  # fmt: skip
    assert facts["networks"]["vis2nir"]["equalise_input"]
    assert not facts["networks"]["nir2vis"]["equalise_input"]
    assert facts["networks"]["nir2vis"]["output_equalised"]
    first, second = facts["verifiers"]
    assert [first["verifier"], second["verifier"]] == ["poseface.onnx", "judge.onnx"]
    assert first["simulated"]
    # The same weights judge alike, whether their features came with the data or were made anew.
    for one, two in zip(first["domains"], second["domains"], strict=True):
        assert one["domain"] == two["domain"]
        assert one["methods"]["none"]["identity"] == pytest.approx(
            two["methods"]["none"]["identity"], abs=1e-3
        )
        assert [gain["fmr"] for gain in one["gains"]] == [0.01, 0.001]
    gains = [GainPoint.model_validate(one) for one in first["gains"]]
    assert len(gains) == 3 * 2 * 2
    assert {(one.domain, one.side) for one in gains} == {
        (domain, side) for domain in ("simulated", "formula", "grey") for side in (112, 28)
    }
    assert first["helps_from_eyes_px"] == helps_from(gains)
    # At full size it is what the domains' own figures say.
    for one in first["domains"]:
        full = [gain for gain in gains if (gain.domain, gain.side) == (one["domain"], 112)]
        values = [gain["base"]["estimate"] for gain in one["gains"]]
        assert [gain.plain.value for gain in full] == pytest.approx(values, abs=1e-3)
    assert set(first["helps"]) == set(first["harms"]) == {"simulated", "formula", "grey"}


def found(*gains: tuple[float, float]) -> DomainFigures:
    def span(low: float, high: float) -> Interval:
        return Interval((low + high) / 2, low, high, 0.95, 50)

    every = [Gain(1e-2, span(0.5, 0.6), span(0.5, 0.6), span(*ends)) for ends in gains]
    return DomainFigures("grey", {}, every)


def test_help_and_harm_want_certainty() -> None:
    assert helps(found((0.01, 0.1), (0.2, 0.3)))
    assert not helps(found((0.01, 0.1), (0.0, 0.3)))
    assert not helps(found())
    assert harms(found((0.01, 0.1), (-0.2, -0.1)))
    assert not harms(found((-0.1, 0.1)))


def test_the_papers_variants_add_one_part_after_the_other() -> None:
    def used(name: str) -> tuple[bool, str, bool, int]:
        o = profile_options("cpu", VARIANTS[name])
        return o.aligned, o.he, bool(o.perceptual_weight), o.pairs

    names = list(VARIANTS)
    assert [used(name) for name in names[:4]] == [
        (False, "off", False, 0), (True, "off", False, 0), (True, "vis_domain", False, 0),
        (True, "vis_domain", True, 0),
    ]  # fmt: skip
    assert profile_options("cpu", VARIANTS[names[-1]]) == profile_options("cpu")
    assert all(profile_options("gpu", VARIANTS[name]) for name in names)


def test_each_person_is_taught_and_asked_by_different_faces() -> None:
    people = np.array(["a"] * 6 + ["b"] * 5 + ["c"] * 2)
    shares = deal(people, 1, 4, 0)
    assert set(people[shares.taught]) == set(people[shares.probes]) == {"a", "b"}
    assert not set(shares.taught) & set(shares.probes)
    assert len(shares.taught) + len(shares.probes) == 11
    assert len(shares.shots) == 2
    assert set(shares.shots) <= set(shares.taught)
    assert (shares.labels[11:] == -1).all()
    assert deal(people, 1, 4, 1).taught.tolist() != shares.taught.tolist()
    with pytest.raises(ValueError, match="too few"):
        deal(people, 1, 6, 0)


def test_a_head_learns_directions() -> None:
    import torch  # noqa: PLC0415

    torch.manual_seed(0)
    centres = torch.nn.functional.normalize(torch.randn(5, 16))
    labels = torch.arange(40) % 5
    features = torch.nn.functional.normalize(centres[labels] + 0.1 * torch.randn(40, 16))
    head = train_head(features, labels, 5, 0)
    assert ((centres @ head.T).argmax(dim=1) == torch.arange(5)).all()


def test_one_command_runs_the_papers_experiment(
    data_folder: Path,
    zoo_poseface: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        ablate, "profile_options", lambda profile, changes: profile_options(profile, changes | TINY)
    )
    chosen = {name: VARIANTS[name] for name in ("CycleGAN, not aligned", "+ identity (ours)")}
    monkeypatch.setattr(ablate, "VARIANTS", chosen)
    common = ["--data", str(data_folder), "--start", str(zoo_poseface), "--cache", str(cache)]
    told = CliRunner().invoke(
        ablate.app,
        [*common, "--out", str(tmp_path), "--epochs", "0.2", "--least", "4", "--seeds", "2",
         "--resamples", "5"],
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    facts = json.loads((tmp_path / "ablation.json").read_text())
    outcomes = facts["outcomes"]
    assert [outcome["name"] for outcome in outcomes] == [NOTHING, *chosen]
    for outcome in outcomes:
        assert set(outcome["top1"]) == {"simulated", "formula"}
        assert set(outcome["tar"]) == {"simulated", "formula", "grey"}
        assert 0 <= outcome["top1"]["simulated"]["low"] <= outcome["top1"]["simulated"]["high"] <= 1
    assert outcomes[0]["cycle_identity"] is None
    assert outcomes[1]["cycle_identity"] < 1
    assert all(name in told.output for name in (NOTHING, *chosen))
    assert (tmp_path / "identity-ours" / "run.json").is_file()
