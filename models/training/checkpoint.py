"""Checkpoints that are whole or absent, and the record of the run beside them."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel

CHECKPOINT = "checkpoint.pt"
RECORD = "run.json"

Options = TypeVar("Options", bound=BaseModel)


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """Write beside the target and rename: a killed run leaves the old file."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Tensors and plain values only; a file with anything else is refused."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def git_revision() -> str:
    """Commit of the source tree, "+changed" when it has local changes, or "unknown"."""
    folder = Path(__file__).parent

    def ask(*words: str) -> str:
        done = subprocess.run(  # noqa: S603
            ["git", *words],  # noqa: S607
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
        return done.stdout.strip()

    try:
        revision = ask("rev-parse", "HEAD")
        return f"{revision}+changed" if ask("status", "--porcelain", "--", "..") else revision
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def write_record(folder: Path, options: BaseModel, facts: dict[str, Any]) -> None:
    """`run.json`: options and seed, revision, data fingerprint and whatever else `facts` holds."""
    record = {
        "options": options.model_dump(),
        "git_revision": git_revision(),
        "torch": torch.__version__,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        **facts,
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")


def read_options(path: Path, kind: type[Options]) -> Options:
    """The options of a `run.json`, which are of this `kind`."""
    return kind.model_validate(json.loads(path.read_text())["options"])
