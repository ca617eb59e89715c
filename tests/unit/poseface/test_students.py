from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="PoseFace trains with torch: pip install mien[train]")
pytest.importorskip("onnx", reason="PoseFace's export needs onnx: pip install mien[train]")

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from models.poseface.batches import Batches
from models.poseface.export import export_onnx
from models.poseface.landmarks import LandmarkAutoencoder
from models.poseface.losses import keep_loss
from models.poseface.network import Features, build_network, serving_network
from models.poseface.objective import Objective, Truth
from models.poseface.train import Trainer
from models.training.errors import TrainingError
from models.training.faces import Faces, load_faces
from models.training.teacher import CENTRAL, embed, teacher_targets
from models.training.verifier import load_frozen
from tests.unit.poseface.samples import options

STUDENT = {"backbone": "foamliu", "identity_dim": None, "norm": "frozen", "keep_weight": 1.0}


@pytest.fixture
def exported(tmp_path: Path) -> Callable[[str, int], Path]:
    """Makes a file of random layers of foamliu's plan that tell pictures apart."""

    def make(name: str, seed: int) -> Path:
        torch.manual_seed(seed)
        network = build_network("foamliu", pose_dim=8)
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.constant_(layer.bias, 0.01)
        served = serving_network(network)
        return export_onnx(served, tmp_path / f"{name}.onnx").path

    return make


def test_a_student_begins_where_its_teacher_is(
    data_folder: Path, cache: Path, tmp_path: Path, exported: Callable[[str, int], Path]
) -> None:
    chosen = options(**STUDENT, start_own=0.0)
    start, teacher = exported("start", 1), exported("teacher", 2)
    trainer = Trainer(chosen, data_folder, tmp_path / "run", cache, None, start, teacher)
    trained = trainer.network.trunk.dense.weight.detach().clone()
    crops = trainer.material.faces.crops[trainer.material.split.train]
    features = embed(trainer.network.trunk.eval(), crops)[:, :128]
    targets = teacher_targets(trainer.material.faces, teacher, cache).sum(dim=1)
    wanted = targets[torch.from_numpy(trainer.material.split.train)]
    # Fewer faces than the dense layer has inputs: the fit is exact.
    assert functional.cosine_similarity(features, wanted).min() > 0.99
    trainer.run()
    assert trainer.step == trainer.steps
    assert not torch.equal(trainer.network.trunk.dense.weight, trained)


def test_a_teacher_of_another_width_is_refused(
    data_folder: Path, cache: Path, tmp_path: Path, exported: Callable[[str, int], Path]
) -> None:
    chosen = options(backbone="foamliu", identity_dim=160, keep_weight=1.0)
    with pytest.raises(TrainingError, match="as wide as the teacher's"):
        Trainer(chosen, data_folder, tmp_path / "run", cache, None, None, exported("teacher", 2))


def test_a_start_keeps_its_own_cosines_where_only_they_are_wanted(
    data_folder: Path, cache: Path, tmp_path: Path, exported: Callable[[str, int], Path]
) -> None:
    start, teacher = exported("start", 1), exported("teacher", 2)
    chosen = options(**STUDENT, start_own=1.0)
    trainer = Trainer(chosen, data_folder, tmp_path / "run", cache, None, start, teacher)
    crops = trainer.material.faces.crops
    turned = functional.normalize(embed(trainer.network.trunk.eval(), crops)[:, :128])
    central = np.ascontiguousarray(crops[:, CENTRAL, CENTRAL].transpose(0, 3, 1, 2))
    looking = load_frozen(start, torch.device("cpu"))
    stored = functional.normalize(looking(torch.from_numpy(central).float()))
    assert torch.allclose(turned @ turned.T, stored @ stored.T, atol=1e-3)
    wanted = teacher_targets(trainer.material.faces, teacher, cache).sum(dim=1)
    before = functional.cosine_similarity(stored, wanted).mean()
    assert functional.cosine_similarity(turned, wanted).mean() > before


def blending(faces: Faces, share: float) -> Batches:
    rows = np.arange(len(faces))
    return Batches(faces, rows, options().augmentation, 4, seed=1, workers=1, blends=share)


@pytest.fixture
def faces(data_folder: Path, cache: Path) -> Faces:
    return load_faces(data_folder, cache)


def test_blends_are_told_and_leave_the_other_faces_as_they_are(faces: Faces) -> None:
    none, some = blending(faces, 0.0), blending(faces, 0.5)
    assert bool(none.make(0).whole.all())
    told = [some.make(step).whole for step in range(none.steps_per_epoch)]
    assert 0 < float(torch.cat(told).float().mean()) < 1
    for step, whole in enumerate(told):
        plain, mixed, again = none.make(step), some.make(step), some.make(step)
        same = (plain.images == mixed.images).flatten(1).all(dim=1)
        assert torch.equal(same, whole)
        assert torch.equal(mixed.images, again.images)


def lost(whole: list[bool]) -> tuple[dict[str, Tensor], Tensor]:
    """Losses of three faces and the gradient on their identity features."""
    torch.manual_seed(0)
    chosen = options(**STUDENT, decode_weight=1.0)
    network = build_network("foamliu", pose_dim=8)
    objective = Objective(chosen, 5, 128, LandmarkAutoencoder(5, 8).eval())
    identity = torch.randn(3, 128, requires_grad=True)
    truth = Truth(
        labels=torch.tensor([0, 1, 2]),
        landmarks=torch.randn(3, 10),
        euler=torch.zeros(3, 3),
        target=torch.randn(3, 128),
        keep=torch.ones(3),
        whole=torch.tensor(whole),
    )
    losses = objective(network, Features(identity, torch.randn(3, 8), identity), truth, 1.0, 0.0)
    torch.autograd.backward(losses["paa"] + losses["pose"])
    assert identity.grad is not None
    return losses, identity.grad


def test_a_blend_has_neither_person_nor_pose_but_is_kept_to() -> None:
    every, _ = lost([True] * 3)
    some, gradient = lost([True, False, True])
    assert some["paa"] != every["paa"]
    assert some["pose"] != every["pose"]
    assert some["keep"] == every["keep"]
    assert gradient[1].abs().max() == 0 < gradient[0].abs().max()
    none = lost([False] * 3)[0]
    assert none["paa"] == none["pose"] == 0
    assert torch.isfinite(none["total"])


def test_a_teacher_can_look_at_what_the_network_is_shown(
    data_folder: Path, cache: Path, tmp_path: Path, exported: Callable[[str, int], Path]
) -> None:
    teacher = exported("teacher", 2)
    chosen = options(**STUDENT, keep_to="seen", blends=0.5)
    trainer = Trainer(chosen, data_folder, tmp_path / "run", cache, None, None, teacher)
    batch = trainer.batches.make(0)
    values = trainer.train_step(batch)
    images = batch.images.float()
    fresh = Trainer(chosen, data_folder, tmp_path / "other", cache, None, None, teacher)
    with torch.no_grad():
        shown = fresh.network.eval()(images).identity
        wanted = load_frozen(teacher, torch.device("cpu"))(images)
    weights = fresh.material.keep_weights[batch.rows]
    assert fresh.material.targets is not None
    clean = fresh.material.targets[batch.rows]
    assert values["keep"] == pytest.approx(float(keep_loss(shown, wanted, weights)), rel=1e-3)
    assert values["keep"] != pytest.approx(float(keep_loss(shown, clean, weights)), rel=1e-2)


def test_what_is_seen_needs_a_teacher_and_a_blend_needs_what_is_seen(
    data_folder: Path, cache: Path, tmp_path: Path
) -> None:
    chosen = options(keep_weight=1.0, keep_to="seen")
    with pytest.raises(TrainingError, match="needs a teacher"):
        Trainer(chosen, data_folder, tmp_path / "run", cache, None)
    with pytest.raises(ValidationError, match="keep_to=seen"):
        options(blends=0.5)
