import numpy as np
import pytest

from models.r3an import protocol
from models.r3an.protocol import Condition, Subjects

A, B, C = np.eye(3, dtype=np.float32)


def near(direction: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    made = (1 - share) * direction + share * other
    return np.asarray(made / np.linalg.norm(made), dtype=np.float32)


def subjects(person: list[int]) -> Subjects:
    yaw = np.array([0.0, 10.0, 40.0, 5.0][: len(person)], np.float32)
    return Subjects(np.array(person), yaw)


def test_a_probe_hits_when_its_mate_beats_every_distractor() -> None:
    faces = np.stack([A, near(A, B, 0.3), B, near(B, A, 0.3)])
    far = np.stack([near(A, C, 0.1)])
    found = protocol.rank_one(Condition(faces, faces, far), subjects([0, 0, 1, 1]), resamples=20)
    point = next(p for p in found if p.where == "all")
    assert (point.pairs, point.people, point.distractors) == (4, 2, 1)
    assert point.rank1.estimate == 0.75  # A itself is nearer to the distractor than to its mate
    frontal = next(p for p in found if p.where == "yaw 0-15")
    assert (frontal.pairs, frontal.rank1.estimate) == (2, 0.5)


def test_a_tie_is_a_miss() -> None:
    faces = np.stack([A, A, B, B])
    found = protocol.rank_one(Condition(faces, faces, A[None]), subjects([0, 0, 1, 1]))
    assert found[0].rank1.estimate == 0.5


def test_more_distractors_never_help() -> None:
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(40), 3)
    faces = rng.normal(size=(40, 16))[person] + rng.normal(size=(120, 16))
    faces = (faces / np.linalg.norm(faces, axis=1, keepdims=True)).astype(np.float32)
    far = rng.normal(size=(3000, 16))
    far = (far / np.linalg.norm(far, axis=1, keepdims=True)).astype(np.float32)
    who = Subjects(person, np.full(120, np.nan, np.float32))
    found = protocol.rank_one(Condition(faces, faces, far), who, resamples=50)
    assert [p.distractors for p in found] == [100, 1000, 3000]
    rates = [p.rank1.estimate for p in found]
    assert 1 > rates[0] > rates[1] > rates[2] > 0
    assert all(p.rank1.low < p.rank1.estimate < p.rank1.high for p in found)
    assert {p.where for p in found} == {"all"}  # nobody's pose is known


def test_the_threshold_comes_from_the_calibration_people_alone() -> None:
    strict = np.stack([A, A, near(A, B, 0.4), near(A, B, 0.4)])
    plain = np.stack([A, near(A, C, 0.45), B, near(B, C, 0.45)])
    who = subjects([0, 0, 1, 1])
    none = A[None]
    own = protocol.acceptance(*2 * (Condition(plain, plain, none), who), fmrs=[0.01], resamples=20)
    other = protocol.acceptance(
        Condition(strict, strict, none), who, Condition(plain, plain, none), who, [0.01], 20
    )
    assert own[0].tar.estimate == 1.0
    assert other[0].threshold > own[0].threshold
    assert other[0].tar.estimate == 0.0
    assert other[0].achieved == 0.0


def test_probe_and_gallery_are_not_exchanged() -> None:
    faces = np.stack([A, A, B, B])
    mapped = np.stack([A, A, C, C])
    who = subjects([0, 0, 1, 1])
    made = protocol.conditions((faces, C[None]), (mapped, B[None]))
    hits = {n: protocol.rank_one(c, who)[0].rank1.estimate for n, c in made.items()}
    assert hits == {"map|T": 0.5, "T|map": 0.5, "map|map": 1.0}
    assert made["map|T"].probe[2].tolist() == C.tolist()
    assert made["T|map"].gallery[2].tolist() == C.tolist()


@pytest.mark.parametrize("dimension", [2, 5])
def test_raw_vectors_are_cut_or_filled(dimension: int) -> None:
    made = protocol.padded(np.array([[3.0, 4.0, 12.0]], np.float32), dimension)
    assert made.shape == (1, dimension)
    assert np.linalg.norm(made) == pytest.approx(1)
    assert made[0, 1] / made[0, 0] == pytest.approx(4 / 3)


def test_nobody_with_two_faces_is_said() -> None:
    faces = np.stack([A, B])
    with pytest.raises(ValueError, match="nobody"):
        protocol.rank_one(Condition(faces, faces, C[None]), subjects([0, 1]))
    with pytest.raises(ValueError, match="no distractors"):
        protocol.rank_one(Condition(faces, faces, C[:0].reshape(0, 3)), subjects([0, 0]))
