"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How it stands."""

    OK = "ok"
    NOTE = "note"
    """It works, and could be better."""
    WRONG = "wrong"
    """Mien does not start, or not as the settings say."""


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Attributes:
        check: what was looked at.
        state: how it stands.
        found: what is there.
        remedy: what to do; empty where all is well.
    """

    check: str
    state: State
    found: str
    remedy: str = ""


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, State.OK, found)


def note(check: str, found: str, remedy: str) -> Finding:
    """It works, and could be better."""
    return Finding(check, State.NOTE, found, remedy)


def wrong(check: str, found: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(check, State.WRONG, found, remedy)
