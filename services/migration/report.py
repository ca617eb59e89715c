"""A plan as files: plan.json, plan.md for people, and plan.png."""

from __future__ import annotations

import json
from pathlib import Path

from services.migration.plan import Plan

_MEBIBYTE = 2**20


def write_report(plan: Plan, folder: Path) -> list[Path]:
    """Writes the three files; the folder is made if it is missing.

    Raises:
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data, text, figure = (folder / f"plan.{kind}" for kind in ("json", "md", "png"))
    data.write_text(json.dumps(plan.shown(), indent=2) + "\n", encoding="utf-8")
    text.write_text(plan_text(plan), encoding="utf-8")
    # Whoever writes no figures, as a gateway, does without matplotlib.
    from services.migration.figures import draw_plan  # noqa: PLC0415

    draw_plan(plan, figure)
    return [data, text, figure]


def summary(plan: Plan) -> list[str]:
    """The plan in sentences, the verdict first."""
    judged = plan.judgement
    lines = [
        f"Verdict: {judged.answer}. It rests on {judged.basis}.",
        (
            f"{plan.templates:,} templates of {plan.source.reference} to {plan.target.reference} "
            f"by {plan.map}; {plan.looked_at:,} of them were looked at."
        ),
    ]
    if judged.fnmr_mapped is not None and judged.fnmr_before is not None:
        lines.append(
            f"At a false-match rate of {plan.fmr:g}, {_percent(judged.fnmr_before)} of comparisons "
            f"within subjects fail now, {_percent(judged.fnmr_mapped)} after the map, "
            f"{_percent(judged.fnmr_expected)} if the verdict is followed."
        )
    if judged.fmr_at_card is not None:
        lines.append(
            f"False matches of this gallery's mapped templates at the map's own threshold: "
            f"{judged.fmr_at_card:.2g}; it was fitted for {plan.fmr:g}."
        )
    if plan.threshold is not None:
        lines.append(
            f"New probes are compared with mapped templates at a similarity of "
            f"{plan.threshold:.4f} from the switch on."
        )
    lines.append(
        f"Mean confidence {plan.mean_confidence:.3f}; {_percent(plan.weak_share)} are weak "
        f"(confidence below {plan.weak_below:.3f})."
    )
    if judged.least_confidence is not None:
        lines.append(
            f"{_percent(judged.enrol_again)} should enrol again: those with a confidence below "
            f"{judged.least_confidence:.3f}."
        )
    lines.append(
        f"It will take about {_duration(plan.seconds)} and {plan.bytes / _MEBIBYTE:,.0f} MiB."
    )
    return lines


def plan_text(plan: Plan) -> str:
    """The plan as Markdown."""
    lines = [f"# Plan of {plan.id}", ""]
    lines += [f"{line}\n" for line in summary(plan)]
    if plan.warnings:
        lines += ["## Before you run it", "", *(f"- {one}" for one in plan.warnings), ""]
    if plan.card_rank1:
        lines += [
            "## Against native enrolment, by the map's card",
            "",
            "| what | rank-1, % |",
            "| --- | --- |",
            *(f"| {name.replace('|', chr(92) + '|')} | {value:.1f} |"
              for name, value in plan.card_rank1.items()),
            "",
        ]  # fmt: skip
    lines += ["![Confidences and scores](plan.png)", ""]
    if plan.weak:
        lines += [
            "## Weak templates in the sample",
            "",
            "| tenant | subject | template | confidence |",
            "| --- | --- | --- | --- |",
            *(f"| {one.tenant} | {one.subject_id} | {one.template_id} | {one.confidence:.3f} |"
              for one in plan.weak),
            "",
        ]  # fmt: skip
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "an unknown share" if share is None else f"{100 * share:.1f} %"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
