"""Writes the Grafana dashboard: `python deploy/grafana/dashboard.py [FILE]`.

The layout is made here, so that a panel is one line that says what it shows.
"""  # noqa: INP001 - a script beside what it writes

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DATASOURCE = {"type": "prometheus", "uid": "mien-prometheus"}
WIDTH, COLUMNS, HEIGHT = 24, 3, 8  # of Grafana's grid
JOB = 'job=~"$job"'
ENGINE_LOADS = f"mien_engine_loads_total{{{JOB}}}"
_RATE = "[$__rate_interval]"


def quantile(share: float, metric: str, by: str) -> str:
    """A quantile of a histogram, by labels."""
    rate = f"rate({metric}_bucket{{{JOB}}}{_RATE})"
    return f"histogram_quantile({share}, sum by (le, {by}) ({rate}))"


def per_second(metric: str, by: str) -> str:
    """How much a counter grows in a second, by labels."""
    return f"sum by ({by}) (rate({metric}{{{JOB}}}{_RATE}))"


def share(metric: str, selector: str, by: str) -> str:
    """What part of a counter's growth has a label, by other labels."""
    part = f"sum by ({by}) (rate({metric}{{{JOB}, {selector}}}{_RATE}))"
    return f"{part} / {per_second(metric, by)}"


def mean(metric: str, by: str) -> str:
    """The mean of a histogram, by labels."""
    return f"{per_second(metric + '_sum', by)} / {per_second(metric + '_count', by)}"


def median(metric: str, span: str, by: str) -> str:
    """The median over a long span, by labels."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile(0.5, sum by ({labels}) (rate({metric}_bucket{span})))"


Shown = tuple[str, str]  # expression, legend
Plot = tuple[str, str, list[Shown]]  # title, unit, what is shown; the unit "heatmap" is for buckets

ROWS: dict[str, list[Plot]] = {
    "Requests": [
        (
            "Requests by outcome",
            "reqps",
            [(per_second("mien_requests_total", "job, outcome"), "{{job}} {{outcome}}")],
        ),
        (
            "Share turned away",
            "percentunit",
            [(share("mien_requests_total", 'outcome="overloaded"', "job"), "{{job}}")],
        ),
        (
            "Time of a request, p99",
            "s",
            [(quantile(0.99, "mien_request_seconds", "method"), "{{method}}")],
        ),
        (
            "Time of a request, median",
            "s",
            [(quantile(0.5, "mien_request_seconds", "method"), "{{method}}")],
        ),
        (
            "Time of a stage, p99",
            "s",
            [(quantile(0.99, "mien_stage_seconds", "stage"), "{{stage}}")],
        ),
        (
            "Time by stage in one second",
            "s",
            [(per_second("mien_stage_seconds_sum", "stage"), "{{stage}}")],
        ),
    ],
    "Engines": [
        (
            "Rows that wait",
            "short",
            [(f"max by (job, model) (mien_queue_depth{{{JOB}}})", "{{job}} {{model}}")],
        ),
        (
            "Wait for the engine, p99",
            "s",
            [(quantile(0.99, "mien_queue_wait_seconds", "model"), "{{model}}")],
        ),
        (
            "Time of a batch, median",
            "s",
            [(quantile(0.5, "mien_inference_seconds", "model"), "{{model}}")],
        ),
        (
            "Rows in a batch, mean",
            "short",
            [
                (mean("mien_batch_size", "model"), "{{model}}"),
            ],
        ),
        (
            "Rows given up",
            "rowsps",
            [(per_second("mien_dropped_rows_total", "model, reason"), "{{model}} {{reason}}")],
        ),
        (
            "Networks by what runs them",
            "short",
            [
                (
                    f"sum by (job, engine, precision, fell_back) ({ENGINE_LOADS})",
                    "{{job}} {{engine}} {{precision}}, fell back: {{fell_back}}",
                )
            ],
        ),
    ],
    "Decisions and drift": [
        (
            "Decisions",
            "cps",
            [
                (per_second("mien_decisions_total", "model, decision"), "{{model}} {{decision}}"),
                (
                    per_second("mien_identifications_total", "model, decision"),
                    "identify {{model}} {{decision}}",
                ),
            ],
        ),
        (
            "Share that is inconclusive",
            "percentunit",
            [(share("mien_decisions_total", 'decision="inconclusive"', "model"), "{{model}}")],
        ),
        (
            "Faces by what enhanced them",
            "cps",
            [
                (
                    per_second("mien_enhancements_total", "enhancer, status"),
                    "{{enhancer}} {{status}}",
                )
            ],
        ),
        (
            "Median similarity: last day and the week before",
            "short",
            [
                (median("mien_similarity", "[1d]", "model"), "{{model}}"),
                (median("mien_similarity", "[1w] offset 1d", "model"), "{{model}}, week before"),
            ],
        ),
        (
            "Median quality: last day and the week before",
            "short",
            [
                (median("mien_face_quality", "[1d]", ""), "quality"),
                (median("mien_face_quality", "[1w] offset 1d", ""), "week before"),
            ],
        ),
        (
            "Quality of faces",
            "heatmap",
            [(f"sum by (le) (increase(mien_face_quality_bucket{{{JOB}}}{_RATE}))", "{{le}}")],
        ),
    ],
    "Gallery and migration": [
        ("Templates", "short", [(f"max(mien_gallery_templates{{{JOB}}})", "live")]),
        (
            "Time of a search, p99",
            "s",
            [(quantile(0.99, "mien_gallery_search_seconds", "job"), "{{job}}")],
        ),
        ("Enrolments", "cps", [(per_second("mien_enrolments_total", "outcome"), "{{outcome}}")]),
        (
            "Templates still to migrate",
            "short",
            [(f"max by (map) (mien_migration_remaining_templates{{{JOB}}})", "{{map}}")],
        ),
        (
            "Speed of migrations",
            "cps",
            [(per_second("mien_migration_templates_total", "map, outcome"), "{{map}} {{outcome}}")],
        ),
        (
            "Steps tried again",
            "cps",
            [(per_second("mien_migration_retries_total", "map, error"), "{{map}} {{error}}")],
        ),
    ],
}


def panel(number: int, plot: Plot, x: int, y: int) -> dict[str, Any]:
    """One plot on the grid."""
    title, unit, shown = plot
    is_heatmap = unit == "heatmap"
    targets = [
        {
            "datasource": DATASOURCE,
            "expr": expression,
            "legendFormat": legend,
            "refId": chr(ord("A") + index),
            **({"format": "heatmap"} if is_heatmap else {}),
        }
        for index, (expression, legend) in enumerate(shown)
    ]
    common = {
        "id": number,
        "title": title,
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": WIDTH // COLUMNS, "h": HEIGHT},
        "targets": targets,
    }
    if is_heatmap:
        return common | {
            "type": "heatmap",
            "options": {"calculate": False, "yAxis": {"unit": "short"}},
        }
    fields = {"defaults": {"unit": unit, "min": 0}, "overrides": []}
    legend = {"displayMode": "list", "placement": "bottom"}
    options = {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    return common | {"type": "timeseries", "fieldConfig": fields, "options": options}


def panels() -> list[dict[str, Any]]:
    """All plots, row by row."""
    placed: list[dict[str, Any]] = []
    y = 0
    for title, plots in ROWS.items():
        position = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        placed.append(
            {
                "id": len(placed) + 1,
                "type": "row",
                "title": title,
                "gridPos": position,
                "panels": [],
            }
        )
        y += 1
        for index, plot in enumerate(plots):
            line, column = divmod(index, COLUMNS)
            x = column * WIDTH // COLUMNS
            placed.append(panel(len(placed) + 1, plot, x, y + line * HEIGHT))
        y += -(-len(plots) // COLUMNS) * HEIGHT
    return placed


def dashboard() -> dict[str, Any]:
    """The whole dashboard, as Grafana imports it."""
    job = {
        "name": "job",
        "label": "Service",
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": "label_values(mien_build_info, job)", "refId": "job"},
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    }
    return {
        "uid": "mien",
        "title": "Mien",
        "description": "Requests, engines, drift and migrations. Written by dashboard.py.",
        "tags": ["mien"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [job]},
        "annotations": {
            "list": [
                {
                    "name": "Alerts",
                    "datasource": DATASOURCE,
                    "enable": True,
                    "iconColor": "red",
                    "expr": 'ALERTS{alertname=~"Mien.+", alertstate="firing"}',
                    "titleFormat": "{{alertname}}",
                }
            ]
        },
        "panels": panels(),
    }


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "mien.json"
    target.write_text(json.dumps(dashboard(), indent=2) + "\n", encoding="utf-8")
