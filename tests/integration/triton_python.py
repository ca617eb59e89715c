"""Another Python for NVIDIA's packages: they need an older protobuf and numpy than Mien does.

python3 -m venv .venv-triton
.venv-triton/bin/pip install 'tritonclient[grpc,http]' nvidia-pytriton onnxruntime
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

VARIABLE = "MIEN_TEST_TRITON_PYTHON"
_REPO = Path(__file__).parents[2]


def triton_python(*modules: str) -> str:
    """The first Python that has these modules; skips the test if there is none."""
    usual = _REPO / ".venv-triton" / "bin" / "python"
    candidates = [os.environ.get(VARIABLE, ""), str(usual), sys.executable]
    code = (
        "import importlib.util as u, sys\n"
        f"sys.exit(not all(u.find_spec(m.split('.')[0]) for m in {list(modules)!r}))"
    )
    for candidate in candidates:
        if not candidate or not Path(candidate).exists():
            continue
        if subprocess.run([candidate, "-c", code], check=False).returncode == 0:
            return candidate
    pytest.skip(
        f"no Python with {' and '.join(modules)} was found; {VARIABLE} names one "
        "(see tests/integration/triton_python.py)"
    )


def run_python(python: str, script: str, *arguments: object, timeout: float = 120) -> str:
    """Runs a script in another Python and returns what it printed; fails with its errors."""
    done = subprocess.run(
        [python, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
