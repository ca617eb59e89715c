"""`mien watch` at a gateway that must know its callers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from services.access.policy import Action
from services.settings import PREFIX
from tests.integration.access.conftest import Guarded
from tests.integration.pictures import faceless

_SECONDS = 120
_REFUSED = 3


def watched(address: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What the command says of a folder with one picture without a face."""
    folder.mkdir(exist_ok=True)
    (folder / "1.jpg").write_bytes(faceless())
    own = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    command = ["watch", str(folder), "--server", address, "--fast", "--json"]
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *command],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
        env={**own, **{f"{PREFIX}WATCH__{name}": value for name, value in environment.items()}},
    )


def test_watch_sends_its_key_and_without_one_it_is_turned_away(
    guarded: Guarded, tmp_path: Path
) -> None:
    address, pictures = str(guarded.mien.grpc_address), tmp_path / "pictures"
    key = guarded.key("a", Action.IDENTIFY)
    done = watched(address, pictures, KEY=key)
    assert done.returncode == 0, done.stderr
    assert '"answered": 1' in done.stdout
    assert key not in done.stdout + done.stderr
    refused = watched(address, pictures)
    assert refused.returncode == _REFUSED, refused.stderr
    assert "API key" in refused.stderr
    weak = watched(address, pictures, KEY=guarded.key("a", Action.VERIFY))
    assert weak.returncode == _REFUSED, weak.stderr
    assert "identify" in weak.stderr
