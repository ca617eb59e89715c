"""The decision of a search: thresholds of the model, of its maps, and of the caller."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.zoo import Zoo
from services.errors import Errors, MienError
from services.gallery import Candidate
from services.gallery.identify import FittedRate
from services.gateway.decision import Cause
from services.gateway.gallery_core import thresholds_of_cards
from services.gateway.search_decision import IdentityDecision, SearchPoint, face_identity
from services.gateway.search_decision import search_point as made_point
from services.rpc.mien.v1 import model_pb2
from services.settings import GallerySettings

MAPPED = [FittedRate(1e-2, 0.1), FittedRate(1e-3, 0.2)]


def search_point(
    searched: int = 1, *, fpir: float = 0.01, threshold: float | None = None
) -> SearchPoint:
    thresholds = [
        model_pb2.Threshold(fmr=1e-2, similarity=0.3),
        model_pb2.Threshold(fmr=1e-3, similarity=0.4),
    ]
    return made_point(
        model_pb2.ModelInfo(thresholds=thresholds),
        searched,
        GallerySettings(margin_decades=0.5),
        lambda name: MAPPED if name == "known@1" else [],
        fpir=fpir,
        threshold=threshold,
    )


def candidate(subject: str, similarity: float, mapped_by: str = "") -> Candidate:
    return Candidate(subject, f"of-{subject}", similarity, mapped_by)


def test_a_mapped_template_is_judged_by_its_maps_threshold() -> None:
    found = face_identity([candidate("a", 0.2, "known@1")], search_point(), [], 5)
    assert found.decision is IdentityDecision.KNOWN
    assert found.candidates[0].threshold == pytest.approx(0.1)
    native = face_identity([candidate("a", 0.2)], search_point(), [], 5)
    assert native.decision is IdentityDecision.UNKNOWN


def test_the_one_farthest_above_its_own_threshold_comes_first() -> None:
    both = [candidate("native", 0.35), candidate("mapped", 0.3, "known@1")]
    found = face_identity(both, search_point(), [], 5)
    assert [one.candidate.subject_id for one in found.candidates] == ["mapped", "native"]
    assert found.margin == pytest.approx(0.15)
    assert found.decision is IdentityDecision.KNOWN
    assert found.least_margin == pytest.approx(0.05)


def test_a_template_of_an_unknown_map_decides_nothing() -> None:
    both = [candidate("mapped", 0.9, "unheard-of@1"), candidate("native", 0.35)]
    found = face_identity(both, search_point(), [], 5)
    assert [one.candidate.subject_id for one in found.candidates] == ["native"]


def test_a_threshold_of_the_callers_own_holds_for_all() -> None:
    both = [candidate("mapped", 0.55, "unheard-of@1"), candidate("native", 0.3)]
    found = face_identity(both, search_point(threshold=0.5), [], 5)
    assert [one.threshold for one in found.candidates] == [0.5, 0.5]
    assert found.decision is IdentityDecision.KNOWN


def test_a_poor_face_is_too_poor_whoever_it_resembles() -> None:
    found = face_identity([candidate("a", 0.9)], search_point(), [Cause.POOR_QUALITY], 5)
    assert (found.decision, found.faults) == (IdentityDecision.TOO_POOR, [Cause.POOR_QUALITY])
    assert len(found.candidates) == 1


def test_an_enhanced_probe_needs_as_much_more_as_its_enhancer_asks() -> None:
    asked = [
        model_pb2.Threshold(fmr=1e-2, similarity=0.35),
        model_pb2.Threshold(fmr=1e-3, similarity=0.43),
        model_pb2.Threshold(fmr=1e-5, similarity=0.9),  # a rate that the model has not
    ]
    point = search_point().for_enhanced(asked)
    both = [candidate("native", 0.37), candidate("mapped", 0.16, "known@1")]
    found = face_identity(both, point, [], 5)
    assert [one.threshold for one in found.candidates] == pytest.approx([0.35, 0.15])
    assert search_point().for_enhanced([]).of("") == search_point().of("")
    laxer = [model_pb2.Threshold(fmr=1e-2, similarity=0.1)]
    assert search_point().for_enhanced(laxer).of("") == search_point().of("")
    own = search_point(threshold=0.5).for_enhanced(asked).of("")
    assert own is not None
    assert own.threshold == 0.5


def test_a_model_with_one_threshold_cannot_be_searched() -> None:
    model = model_pb2.ModelInfo(thresholds=[model_pb2.Threshold(fmr=1e-3, similarity=0.4)])
    with pytest.raises(MienError) as caught:
        made_point(model, 1, GallerySettings(), lambda _: [])
    assert caught.value.error is Errors.THRESHOLD_UNKNOWN


def test_the_cards_of_maps_tell_their_thresholds(tmp_path: Path) -> None:
    end = {"weights_sha256": "0" * 64, "preprocessing_sha256": "1" * 64, "dimension": 8}
    fit = {
        "interval": [0.0, 1.0],
        "impostor_comparisons": 10,
        "people": 2,
        "images": 2,
        "data": "made",
        "command": "made",
    }
    thresholds = [
        {"comparison": kind, "fmr": 0.01, "similarity": similarity, **fit}
        for kind, similarity in (("map|T", 0.5), ("T|map", 0.25), ("map|map", 0.75))
    ]
    card = {
        "kind": "map",
        "name": "a-to-b",
        "version": "1",
        "weights": {"sha256": "2" * 64, "size_bytes": 1},
        "source": {"name": "a", "version": "1", **end},
        "target": {"name": "b", "version": "1", **end},
        "method": "made",
        "thresholds": thresholds,
    }
    folder = tmp_path / "models" / "a-to-b" / "1"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(json.dumps(card))
    zoo = Zoo(tmp_path)
    assert [one.reference for one in zoo.cards() if one.name == "a-to-b"] == ["a-to-b@1"]
    of = thresholds_of_cards(zoo)
    assert of("a-to-b@1") == [FittedRate(0.01, 0.25)]
    assert of("unheard-of@1") == []
    assert of("poseface@1") == []
