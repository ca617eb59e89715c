import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.r3an.arrays import unit
from models.r3an.game import Batch
from models.r3an.mappers import mapped
from models.r3an.options import ARCHITECTURES, TrainOptions, profile_options
from models.r3an.train import NAN, RESULT, Trainer, small_faces
from models.r3an.vectors import Pairs
from models.training.checkpoint import load_checkpoint, read_options
from models.training.errors import TrainingError
from models.training.faces import Faces
from models.training.loop import MAX_BAD_STEPS

TINY = {"batch": 8, "epochs": 0.2, "validate_steps": 1000, "flip": 0.5}


def options(**changes: object) -> TrainOptions:
    return profile_options("cpu", {**TINY, **changes})


@pytest.fixture(scope="module")
def toy(faces: Faces) -> Pairs:
    """Vectors made of the toy pictures themselves, so that they belong to them."""
    rng = np.random.default_rng(0)
    both = np.stack([faces.crops[:, ::16, ::16], faces.crops[:, ::16, ::-16]], axis=1)
    looks = both.reshape(len(faces), 2, -1) / 255.0 - 0.5
    names, person = np.unique(np.array(faces.people), return_inverse=True)
    person = np.where(names[person] == "", -1, person)
    source = looks @ rng.normal(size=(looks.shape[2], 12))
    return Pairs(
        unit(source),
        unit(source @ rng.normal(size=(12, 8))),
        person.astype(np.int64),
        faces.euler[:, 1],
        np.arange(0, 72),
        np.arange(72, 96),
        np.arange(96, 120),
        np.arange(120, 140),
    )


def trainer(toy: Pairs, faces: Faces, cache: Path, out: Path, **changes: Any) -> Trainer:
    return Trainer(options(**changes), toy, faces, out, cache, {"source_sha256": "a"})


def test_a_stopped_run_goes_on_bit_by_bit(
    toy: Pairs, faces: Faces, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trainer(toy, faces, cache, tmp_path / "whole", epochs=0.4)
    whole.run()

    first = trainer(toy, faces, cache, tmp_path / "cut", epochs=0.4)
    step = first.train_step

    def stop_after_two(batch: Batch) -> dict[str, float]:
        values = step(batch)
        first.stopping = first.step == 2
        return values

    monkeypatch.setattr(first, "train_step", stop_after_two)
    first.run()
    assert first.step == 2
    second = trainer(toy, faces, cache, tmp_path / "cut", epochs=0.4)
    second.run()
    assert second.step == whole.step == 4

    one = load_checkpoint(tmp_path / "whole" / "checkpoint.pt")
    two = load_checkpoint(tmp_path / "cut" / "checkpoint.pt")
    for part in ("mapper", "average", "discriminator"):
        for name, value in one[part].items():
            assert torch.equal(value, two[part][name]), f"{part} {name}"
    assert read_options(tmp_path / "whole" / "run.json", TrainOptions) == options(epochs=0.4)
    found = json.loads((tmp_path / "whole" / RESULT).read_text())
    assert 0 <= found["rank1"] <= 1


def test_a_run_of_other_models_is_not_taken_up(
    toy: Pairs, faces: Faces, cache: Path, tmp_path: Path
) -> None:
    trainer(toy, faces, cache, tmp_path, fc="flat").run()
    other = Trainer(options(fc="flat"), toy, faces, tmp_path, cache, {"source_sha256": "b"})
    with pytest.raises(TrainingError, match="other data"):
        other.run()


def test_a_run_that_diverges_ends_with_nan_as_its_result(
    toy: Pairs, faces: Faces, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = trainer(toy, faces, cache, tmp_path, epochs=5.0, **ARCHITECTURES["Arch7"])
    make = running.make

    def broken(step: int) -> Batch:
        batch = make(step)
        return batch._replace(images=batch.images * float("nan"))

    monkeypatch.setattr(running, "make", broken)
    running.run()
    found = json.loads((tmp_path / RESULT).read_text())
    assert found["rank1"] == NAN == "NAN"
    assert running.step < MAX_BAD_STEPS < running.steps


@pytest.mark.parametrize("form", ["FC", "FC-deep"])
def test_both_forms_of_the_baseline_learn(
    form: str, toy: Pairs, faces: Faces, cache: Path, tmp_path: Path
) -> None:
    changes = {**ARCHITECTURES[form], "lr_extractor": 1e-2, "ema": 0.0}  # type: ignore[index]
    running = trainer(toy, faces, cache, tmp_path, epochs=20.0, **changes)
    lost = [running.train_step(running.make(k % 9))["reg"] for k in range(60)]
    assert np.mean(lost[-9:]) < 0.6 * lost[0]


def test_a_mirrored_face_has_its_mirror_images_vectors(
    toy: Pairs, faces: Faces, cache: Path, tmp_path: Path
) -> None:
    running = trainer(toy, faces, cache, tmp_path, flip=0.5, batch=16)
    batch = running.make(0)
    small = torch.from_numpy(np.array(small_faces(faces, cache))).permute(0, 3, 1, 2) / 127.5 - 1
    plain, mirrored = 0, 0
    for image, source, target in zip(batch.images, batch.source, batch.target, strict=True):
        turned = False
        distances = (small - image).abs().mean(dim=(1, 2, 3))
        if float(distances.min()) > 1e-3:
            distances, turned = (small.flip(3) - image).abs().mean(dim=(1, 2, 3)), True
        row = int(distances.argmin())
        assert float(distances[row]) < 1e-3
        assert row in toy.train
        np.testing.assert_array_equal(source.numpy(), toy.source[row, int(turned)])
        np.testing.assert_array_equal(target.numpy(), toy.target[row, int(turned)])
        plain, mirrored = plain + (not turned), mirrored + turned
    assert plain > 0
    assert mirrored > 0


def test_r3an_beside_ridge_starts_close_to_ridge(
    toy: Pairs, faces: Faces, cache: Path, tmp_path: Path
) -> None:
    running = trainer(toy, faces, cache, tmp_path, linear_path=True)
    made = mapped(running.result(), toy.source[toy.test, 0])
    cosine = (made * toy.target[toy.test, 0]).sum(axis=1).mean()
    alone = trainer(toy, faces, cache, tmp_path / "alone")
    without = mapped(alone.result(), toy.source[toy.test, 0])
    assert cosine > 0.5
    assert cosine > (without * toy.target[toy.test, 0]).sum(axis=1).mean() + 0.3


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(ValueError, match="teaches the extractor"):
        options(rep_l2=False, reg_l2=False)
    with pytest.raises(ValueError, match="linear_path"):
        options(linear_path=True, reg_l2=False)
