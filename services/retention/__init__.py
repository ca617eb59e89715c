"""Retention: what is deleted by itself, and when."""

from services.retention.run import Due, Retention, Run

__all__ = ["Due", "Retention", "Run"]
