"""Fuzzes one target by coverage: ``python -m tests.fuzz.cover TARGET SECONDS FOLDER``.

A fault ends the run with a code other than 0; the input at fault lies in FOLDER, as crash-*, oom-*,
timeout-* or slow-unit-*. Give its path as fourth argument to see the fault again.
"""

from __future__ import annotations

import contextlib
import importlib
import resource
import sys
from pathlib import Path

import atheris

_CORPUS = Path(__file__).parent / "corpus"
_WATCHED = (
    "services.gateway.imaging",
    "services.gateway.rest",
    "services.gateway.given_vectors",
    "services.gallery.checks",
    "models.zoo",
    "python_multipart",
    "zipfile",
)
_INPUT_SECONDS = 10  # longest for one input
_MEMORY_MB = 1500  # that may be needed beside what the process begins with


def main() -> None:
    """Runs libFuzzer until its time is over, or a fault is found."""
    name, seconds, folder, *again = sys.argv[1:]
    with atheris.instrument_imports(include=list(_WATCHED)):
        target = importlib.import_module("tests.fuzz.targets").TARGETS[name]

    def once(data: bytes) -> None:
        with contextlib.suppress(*target.fair):
            target.run(data)

    # libFuzzer looks at the largest size so far, and a process inherits that of its parent: a long
    # test run is larger than any fault.
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    grown = Path(folder, "corpus")
    grown.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={folder}/",
        f"-timeout={_INPUT_SECONDS}",
        f"-rss_limit_mb={begun + _MEMORY_MB}",
        "-max_len=65536",
        "-print_final_stats=1",
        "-verbosity=1",
    ]
    inputs = again or [str(grown), str(_CORPUS / name)]
    atheris.Setup([sys.argv[0], *options, *inputs], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
