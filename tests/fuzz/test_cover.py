"""Decoders under coverage-guided fuzzing: no error but those that they document, no lost memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.fuzzed import SECONDS
from tests.fuzz.make_corpus import inputs

_REPO = Path(__file__).parents[2]
_TARGETS = ("pictures", "bodies", "rows", "vectors", "cards")
_SHARE = 5  # of the time box: these five are small beside a whole process
_INPUTS_BYTES = 200_000


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("target", _TARGETS)
def test_odd_bytes_raise_what_is_documented(target: str, tmp_path: Path) -> None:
    seconds = max(1, round(SECONDS / _SHARE))
    result = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.cover", target, str(seconds), tmp_path],
        cwd=_REPO,
        env={name: value for name, value in os.environ.items() if not name.startswith("MIEN_")},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + 90,
        check=False,
    )
    runs = re.search(r"stat::number_of_executed_units: (\d+)", result.stderr)
    print(f"{target}: {runs and runs[1]} runs in {seconds} s")  # noqa: T201 - shown with -s
    assert result.returncode == 0, result.stderr[-6000:]
    assert runs is not None
    assert int(runs[1]) > len(list((_REPO / "tests" / "fuzz" / "corpus" / target).iterdir()))


def test_the_first_inputs_are_small_and_what_their_maker_writes() -> None:
    made = {f"{target}/{name}": data for target, name, data in inputs()}
    folder = _REPO / "tests" / "fuzz" / "corpus"
    kept = {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }
    assert kept.keys() == made.keys()
    assert sum(map(len, kept.values())) < _INPUTS_BYTES
