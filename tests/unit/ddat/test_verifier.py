from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")
pytest.importorskip("onnx", reason="training needs onnx: pip install mien[train]")

import onnxruntime
import torch
from torch.nn import functional as F  # noqa: N812

from models.ddat.verifier import Verifier

PEOPLE = 3


def verifier(path: Path, stages: int) -> Verifier:
    torch.manual_seed(0)
    return Verifier(path, F.normalize(torch.randn(PEOPLE, 128)), stages, scale=24.0)


def images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 112, 112, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("stages", [0, 2, 13])
def test_at_the_start_teacher_and_verifier_say_what_the_released_file_says(
    zoo_poseface: Path, stages: int
) -> None:
    session = onnxruntime.InferenceSession(str(zoo_poseface), providers=["CPUExecutionProvider"])
    theirs = torch.from_numpy(session.run(None, {"data": ((images() + 1) * 127.5).numpy()})[0])
    with torch.no_grad():
        seen = verifier(zoo_poseface, stages)(images())
    for features in (seen.teacher, seen.own):
        assert F.cosine_similarity(features, theirs).min() > 0.9999
        torch.testing.assert_close(features.norm(dim=1), torch.ones(2))


def test_only_the_last_stages_the_dense_layer_and_the_classes_are_learned(
    zoo_poseface: Path,
) -> None:
    for stages, blocks in ((0, set()), (2, {"late.0", "late.1", "dense"})):
        made = verifier(zoo_poseface, stages)
        learned = {id(p) for p in made.learned()}
        names = {n for n, p in made.named_parameters() if id(p) in learned}
        assert {n for n in names if n.startswith(tuple(blocks) or ("late", "dense"))} == (
            names - {"classes"}
        )
        assert all(any(n.startswith(block) for n in names) for block in blocks)
        assert not any(p.requires_grad for p in made.trunk.parameters())
    with pytest.raises(ValueError, match="cannot be learned"):
        verifier(zoo_poseface, 14)


def test_the_teachers_maps_do_not_depend_on_what_is_learned_and_split_by_pictures(
    zoo_poseface: Path,
) -> None:
    with torch.no_grad():
        one = verifier(zoo_poseface, 1)
        seen, other = one(images(4)), verifier(zoo_poseface, 3)(images(4))
        assert len(seen.maps) == len(one.trunk.stages())
        for mine, theirs in zip(seen.maps, other.maps, strict=True):
            torch.testing.assert_close(mine, theirs)
        halves = seen.parts(2)
    assert len(halves) == 2
    assert torch.equal(torch.cat([half.own for half in halves]), seen.own)
    assert torch.equal(torch.cat([half.maps[3] for half in halves]), seen.maps[3])


def test_gradients_reach_pictures_through_the_frozen_teacher(zoo_poseface: Path) -> None:
    given = images(1).requires_grad_()
    seen = verifier(zoo_poseface, 1)(given)
    seen.teacher[:, 0].sum().backward()
    assert given.grad is not None
    assert given.grad.abs().max() > 0


def test_a_face_in_a_centres_direction_gets_that_class(zoo_poseface: Path) -> None:
    made = verifier(zoo_poseface, 0)
    logits = made.logits(made.centres)
    assert logits.argmax(dim=1).tolist() == [0, 1, 2]
    torch.testing.assert_close(logits.diag(), torch.full((PEOPLE,), 24.0))
    before = made.centres.clone()
    made.move_centres(-before[:1], torch.tensor([0]), 0.5)
    # Half of the way there, halved by the rule's 1 + n.
    torch.testing.assert_close(made.centres[0], 0.5 * before[0])
    assert torch.equal(made.centres[1:], before[1:])
    assert torch.equal(made.classes, before)


def test_what_was_learned_survives_in_a_checkpoint_and_as_an_embedder(zoo_poseface: Path) -> None:
    one, other = verifier(zoo_poseface, 1), verifier(zoo_poseface, 1)
    with torch.no_grad():
        for p in one.learned():
            p.add_(0.01 * torch.randn_like(p))
        seen, before = one(images()), other(images())
        other.load_own_state(one.own_state())
        after = other(images())
        plain = F.normalize(one.embedder()((images() + 1) * 127.5))
    assert not torch.allclose(before.own, seen.own, atol=1e-3)
    assert torch.equal(after.own, seen.own)
    assert torch.equal(after.teacher, seen.teacher)
    torch.testing.assert_close(plain, seen.own)
