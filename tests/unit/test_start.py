"""What a start loads: commands are to answer soon, and a gateway is to stay small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
HEAVY = ("matplotlib", "torch", "pymilvus", "onnx", "ray", "tensorrt")
"""What only some commands need, and some installations do not have."""
HELP = "import sys; sys.argv[1:] = ['--help']; from services.cli.main import main; main()"


def loaded(start: str) -> list[str]:
    """What of that is loaded at the end of a program."""
    told = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('', *[one for one in {HEAVY} if one in sys.modules]))\n"
        f"{start}"
    )
    done = subprocess.run(
        [sys.executable, "-c", told], cwd=REPO, check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()[-1].split()


@pytest.mark.parametrize("start", ["import services.serve", HELP], ids=["serve", "help"])
def test_what_only_some_commands_need_is_not_loaded_at_the_start(start: str) -> None:
    assert loaded(start) == []


def test_the_look_would_find_what_is_loaded() -> None:
    assert loaded("import matplotlib") == ["matplotlib"]
