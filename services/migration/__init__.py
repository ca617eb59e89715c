"""Migration: a gallery's templates from one model's space to the next, without photographs."""

from services.migration.migrations import Migrations
from services.migration.plan import Plan, WeakTemplate
from services.migration.planner import PlanOptions
from services.migration.record import Record, State

__all__ = ["Migrations", "Plan", "PlanOptions", "Record", "State", "WeakTemplate"]
