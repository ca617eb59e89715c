"""What is watched for: alerts and dashboards ask for metrics, labels and words that Mien has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from services.errors import Errors
from services.gateway.decision import Decision
from services.gateway.enhancement import Status
from services.migration import metrics as migration_metrics
from services.migration.record import State
from services.telemetry import metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
GRID_COLUMNS = 24  # of Grafana
OWN_FAULTS = 500  # HTTP statuses from here on are Mien's own
# What Prometheus and the service discovery add, and what a histogram has.
ADDED = {"job", "instance", "le"}
WORDS: dict[str, set[str]] = {
    "outcome": {error.value.code for error in Errors}
    | {"ok", "cancelled"}
    | {"written", "skipped", "second_hand"},
    "decision": {one.value for one in Decision},
    "status": {one.value for one in Status},
    "state": {one.value for one in State},
    "fell_back": {"yes", "no"},
    "error": {error.value.code for error in Errors},
}


def _labels_by_metric() -> dict[str, set[str]]:
    """The names that Prometheus knows Mien's metrics by, each with its labels."""
    known: dict[str, set[str]] = {}
    for module in (metrics, migration_metrics):
        for metric in vars(module).values():
            if not isinstance(metric, MetricWrapperBase):
                continue
            labels = set(metric._labelnames)
            for family in metric.collect():
                for ending in ("", "_total", "_bucket", "_sum", "_count"):
                    known[family.name + ending] = labels | ADDED
    return known


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads((DEPLOY / "grafana" / "mien.json").read_text("utf-8"))
    return board


def _expressions() -> list[tuple[str, str]]:
    """What alerts and dashboard ask of Prometheus, by the name of who asks."""
    of_alerts = [(rule["alert"], rule["expr"]) for rule in _rules()]
    return of_alerts + [
        (panel["title"], target["expr"])
        for panel in _dashboard()["panels"]
        for target in panel.get("targets", ())
    ]


def test_metrics_that_are_watched_exist_and_have_the_labels_that_are_asked_for() -> None:
    known = _labels_by_metric()
    assert "mien_requests_total" in known, "the registry has lost its metrics"
    for name, expression in _expressions():
        named = re.findall(r"\b(mien_\w+)(?:\{([^}]*)\})?", expression)
        assert named or "up{" in expression, name
        for metric, selector in named:
            assert metric in known, f"{name}: there is no metric {metric}"
            selected = set(re.findall(r"(\w+)\s*[=!]~?", selector))
            assert selected <= known[metric], f"{name}: {metric} has no label {selected}"
        grouped = re.findall(r"\bby \(([^)]*)\)", expression)
        labels = {label.strip() for group in grouped for label in group.split(",")}
        has = ADDED.union(*(known[metric] for metric, _ in named))
        assert labels <= has, f"{name}: no label {labels - has}"


def test_alerts_ask_for_words_that_labels_can_hold() -> None:
    for name, expression in _expressions():
        for label, words in re.findall(r"(\w+)\s*[=!]~?\s*\"([^\"]*)\"", expression):
            if label in WORDS:
                assert set(words.split("|")) <= WORDS[label], name


def test_error_share_counts_exactly_what_is_no_fault_of_the_caller() -> None:
    expression = dict(_expressions())["MienErrorShare"]
    counted = re.findall(r"outcome=~\"([^\"]*)\"", expression)[0].split("|")
    own = {error.value.code for error in Errors if error.value.http >= OWN_FAULTS}
    assert set(counted) == own


def test_every_alert_says_how_bad_it_is_and_what_to_do_and_is_tested() -> None:
    tested = "".join(
        path.read_text(encoding="utf-8") for path in ALERTS.parent.glob("alerts*_test.yml")
    )
    for rule in _rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}, rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]
        assert rule["annotations"]["remedy"], rule["alert"]
        assert f"alertname: {rule['alert']}\n" in tested, f"{rule['alert']} is never made to fire"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on the PATH")
def test_an_alert_that_fires_too_late_fails_its_test(tmp_path: Path) -> None:
    copy = shutil.copytree(ALERTS.parent, tmp_path / "prometheus")
    command = ["promtool", "test", "rules", "alerts_test.yml"]
    assert subprocess.run(command, cwd=copy, capture_output=True, check=False).returncode == 0
    rules = (copy / "alerts.yml").read_text(encoding="utf-8")
    assert "for: 2m" in rules
    (copy / "alerts.yml").write_text(rules.replace("for: 2m", "for: 20m"), encoding="utf-8")
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "MienServiceDown" in done.stdout + done.stderr


def test_metrics_have_no_label_that_tells_people_apart() -> None:
    telling = {"subject", "subject_id", "template_id", "person", "name", "request_id", "vector"}
    for name, labels in _labels_by_metric().items():
        assert not labels & telling, name


def test_plots_lie_side_by_side_and_ask_the_prometheus_that_is_provided() -> None:
    sources = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text("utf-8")
    )["datasources"]
    panels = _dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert max(x for x, _ in cells) < GRID_COLUMNS, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == sources[0]["uid"], panel["title"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on the PATH")
def test_prometheus_understands_every_plot(tmp_path: Path) -> None:
    rules = [
        {
            "record": f"plot:{index}",
            "expr": expression.replace("$__rate_interval", "5m").replace("$job", ".+"),
        }
        for index, (_, expression) in enumerate(_expressions())
    ]
    file = tmp_path / "plots.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "plots", "rules": rules}]}))
    command = ["promtool", "check", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout
