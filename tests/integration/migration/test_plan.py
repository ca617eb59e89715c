"""A plan: what it says of a gallery and a map, and that it changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from services.gallery import Enrolment, Gallery, NewTemplate
from services.migration import PlanOptions
from services.migration.judgement import Scored, judge
from services.migration.report import plan_text, write_report
from tests.integration.mapping.tiny_mapping import SOURCE, add_map, threshold, units
from tests.integration.migration.migrating import MAP, NEW, OLD, enrol, opened, settings_of
from tests.tiny_networks import expected_mapped

_FMR = 1e-2


def _card(home: Path) -> None:
    add_map(
        home,
        thresholds=[threshold("T|map", _FMR, 0.61), threshold("map|map", _FMR, 0.7)],
        confidence={
            "bins": [
                {"predicted": p, "measured": p, "faces": 10} for p in (0.2, 0.3, 0.4, 0.5, 0.6)
            ],
            "gap": 0.0,
            "rank_correlation": 1.0,
            "data": "made up",
        },
        metrics=[
            {
                "name": "rank1 T|map, 100 distractors", "data": "made up", "value": 91.5,
                "unit": "percent", "command": "none", "hardware": "none", "date": "2026-01-01",
            }
        ],
    )  # fmt: skip


async def _enrol_pairs(gallery: Gallery, people: int, noise: float) -> None:
    """People with two templates each, which resemble each other."""
    rows = units(people, SOURCE, 3)
    rng = np.random.default_rng(4)
    for number, row in enumerate(rows):
        near = row + noise * rng.standard_normal(SOURCE).astype(np.float32)
        templates = [
            NewTemplate(OLD, vector, f"{number}-{k}") for k, vector in enumerate((row, near))
        ]
        await gallery.enrol("north", [Enrolment(f"p{number}", templates)])


async def test_a_plan_tells_verdict_threshold_time_and_space_and_changes_nothing(
    tmp_path: Path,
) -> None:
    _card(tmp_path)
    async with opened(settings_of(tmp_path)) as (gallery, migrations):
        await gallery.create_collection(OLD)
        await _enrol_pairs(gallery, 80, 0.02)
        plan = await migrations.plan(PlanOptions(MAP, fmr=_FMR))
        assert [one.space for one in await gallery.collections()] == [OLD]
    assert plan.judgement.answer == "migrate"
    assert plan.judgement.genuine == 80
    assert plan.judgement.impostor == 160 * 159 // 2 - 80
    assert plan.judgement.fnmr_before == plan.judgement.fnmr_mapped == 0.0
    assert plan.threshold == pytest.approx(0.61)
    assert (plan.templates, plan.looked_at) == (160, 160)
    assert plan.seconds > 0
    assert plan.bytes > 160 * NEW.dimension * 4
    assert plan.card_rank1 == {"rank1 T|map, 100 distractors": 91.5}
    # Random tiny vectors are alike more often than faces: the card's threshold is doubted.
    assert plan.judgement.fmr_at_card is not None
    assert plan.judgement.fmr_at_card > 3 * _FMR
    assert any("own threshold" in one for one in plan.warnings)


async def test_weak_templates_are_those_below_the_level_of_the_card(tmp_path: Path) -> None:
    _card(tmp_path)
    async with opened(settings_of(tmp_path)) as (gallery, migrations):
        await gallery.create_collection(OLD)
        await enrol(gallery, 200)
        plan = await migrations.plan(PlanOptions(MAP, fmr=_FMR))
        done = await migrations.run(plan.id)
    _, trust = expected_mapped(units(200, SOURCE, 1), NEW.dimension)
    wanted = {f"t{number}" for number in np.flatnonzero(trust < 0.25)}
    assert plan.weak_below == pytest.approx(0.25)
    assert {one.template_id for one in plan.weak} == wanted
    assert wanted
    assert plan.weak_share == pytest.approx(len(wanted) / 200)
    assert done.weak == len(wanted)
    assert done.mean_confidence == pytest.approx(float(trust.mean()), abs=1e-4)


async def test_without_two_templates_of_anybody_the_confidences_decide(tmp_path: Path) -> None:
    _card(tmp_path)
    async with opened(settings_of(tmp_path)) as (gallery, migrations):
        await gallery.create_collection(OLD)
        await enrol(gallery, 100)
        sure = await migrations.plan(PlanOptions(MAP, weak_below=-1.0))
        unsure = await migrations.plan(PlanOptions(MAP, weak_below=0.99))
    assert sure.judgement.answer == "migrate"
    assert unsure.judgement.answer == "re-enrol"
    assert "confidences alone" in unsure.judgement.basis


async def test_a_sample_is_taken_from_all_of_the_gallery(tmp_path: Path) -> None:
    _card(tmp_path)
    async with opened(settings_of(tmp_path)) as (gallery, migrations):
        await gallery.create_collection(OLD)
        await enrol(gallery, 1000)
        plan = await migrations.plan(PlanOptions(MAP, sample=160, weak_below=1.0))
    assert plan.looked_at == 160
    numbers = sorted(int(one.template_id[1:]) for one in plan.weak)
    assert numbers[0] < 100
    assert numbers[-1] > 850


async def test_the_report_is_json_and_text_and_a_figure(tmp_path: Path) -> None:
    _card(tmp_path)
    async with opened(settings_of(tmp_path)) as (gallery, migrations):
        await gallery.create_collection(OLD)
        await _enrol_pairs(gallery, 40, 0.02)
        plan = await migrations.plan(PlanOptions(MAP, fmr=_FMR))
    data, text, figure = write_report(plan, tmp_path / "report")
    told = json.loads(data.read_text())
    assert told["judgement"]["answer"] == plan.judgement.answer
    assert sum(told["confidences"]) == pytest.approx(1, abs=1e-3)
    assert sum(told["judgement"]["histograms"]["mapped impostor"]) == pytest.approx(1, abs=1e-3)
    assert "Verdict: migrate" in text.read_text()
    assert "rank1 T\\|map" in plan_text(plan)
    picture = cv2.imread(str(figure))
    assert picture is not None
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10


def test_a_map_that_mixes_people_up_is_advised_against() -> None:
    rows = units(200, 16, 1)
    source = np.repeat(rows, 2, axis=0)
    noise = np.random.default_rng(2).standard_normal(source.shape).astype(np.float32)
    mixed = source + 2 * noise
    scored = Scored(
        source,
        (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32),
        np.full(len(source), 0.5, np.float32),
        np.repeat(np.arange(200), 2),
        "cosine",
    )
    found = judge(scored, 1e-3, None, 0.0)
    assert found.answer == "re-enrol"
    assert found.fnmr_before == 0.0
    assert found.fnmr_mapped is not None
    assert found.fnmr_mapped > 0.5
