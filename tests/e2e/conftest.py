"""What tests of a whole process share."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.floods import HEADER_SECONDS, MOST, STALLED_SECONDS
from tests.integration.harness import MienProcess


@pytest.fixture(scope="session")
def flooded(mien_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MienProcess]:
    """A process whose patience is short, so that tests see its end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    path = tmp_path_factory.mktemp("floods") / "log"
    limits: dict[str, float] = {
        "CONNECTIONS__MOST": MOST,
        "CONNECTIONS__HEADER_SECONDS": HEADER_SECONDS,
        "CONNECTIONS__STALLED_SECONDS": STALLED_SECONDS,
        "CONNECTIONS__IDLE_SECONDS": 30,
        "CONNECTIONS__BODY_BYTES": 1,  # no more than one request may have
        "CONNECTIONS__STREAMS": 64,
        "IMAGE__MAX_REFERENCES": 1,
    }
    with path.open("wb") as log:
        process = MienProcess(mien_home, log, "all", EMBEDDING__MODELS="sface", **limits)
        with process:
            yield process.wait_until_ready()
            assert process.process.poll() is None, "the process has ended"
    text = path.read_text(errors="replace")
    assert "Traceback" not in text, text[-5000:]
