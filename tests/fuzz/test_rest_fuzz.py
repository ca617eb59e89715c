"""REST under generated requests: what the OpenAPI description says holds, whatever is sent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.fuzzed import SECONDS, fuzzed_mien
from tests.fuzz.rest_hooks import KEPT_KEY

_REPO = Path(__file__).parents[2]
_CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_headers_conformance", "response_schema_conformance", "negative_data_rejection",
    "unsupported_method", "allow_header_conformance", "use_after_free",
    "ensure_resource_availability", "ignored_auth", "refusals_are_problems",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 3 + 120)
def test_generated_requests_are_answered_as_described(mien_home: Path, tmp_path: Path) -> None:
    with fuzzed_mien(mien_home, tmp_path) as mien:
        result = subprocess.run(
            [
                Path(sys.executable).with_name("st"), "--no-color", "run",
                f"{mien.process.mien.rest_url}/openapi.json",
                "--max-time", str(round(SECONDS)),
                "--checks", ",".join(_CHECKS),
                "--header", f"X-API-Key: {mien.secret}",
                "--phases", "coverage,fuzzing,stateful",
                "--continue-on-failure",
                "--generation-database", "none",
                "--request-timeout", "30",
                "--warnings", "off",
            ],
            cwd=_REPO,
            env=os.environ
            | {
                "SCHEMATHESIS_HOOKS": "tests.fuzz.rest_hooks",
                "PYTHONPATH": str(_REPO),
                KEPT_KEY: mien.key_id,
            },
            capture_output=True,
            text=True,
            timeout=SECONDS * 2 + 60,
            check=False,
        )  # fmt: skip
    print(result.stdout[-1500:])  # noqa: T201 - shown with -s, and where it fails
    assert result.returncode == 0, result.stdout[-20_000:] + result.stderr[-2000:]
