"""Prometheus metrics of migrations. Labels are maps and words of this program, nothing else."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from services.migration.record import Record, State

TEMPLATES = Counter(
    "mien_migration_templates_total",
    "Templates that a migration has dealt with, by map and outcome.",
    ["map", "outcome"],
)
WEAK = Counter(
    "mien_migration_weak_templates_total", "Templates stored with little confidence.", ["map"]
)
RETRIES = Counter(
    "mien_migration_retries_total",
    "Steps that were tried again, by map and what had failed.",
    ["map", "error"],
)
_REMAINING = Gauge("mien_migration_remaining_templates", "Templates still to be read.", ["map"])
_ETA = Gauge("mien_migration_eta_seconds", "Time still needed; NaN if nobody can tell.", ["map"])
_RATE = Gauge("mien_migration_templates_per_second", "Speed of late.", ["map"])
_STATE = Gauge("mien_migration_state", "1 for the state that it is in.", ["map", "state"])


def show(record: Record) -> None:
    """Shows where a migration stands."""
    eta = record.eta_seconds
    _REMAINING.labels(record.map).set(record.remaining)
    _ETA.labels(record.map).set(float("nan") if eta is None else eta)
    _RATE.labels(record.map).set(record.rate)
    for state in State:
        _STATE.labels(record.map, state.value).set(float(state is record.state))
