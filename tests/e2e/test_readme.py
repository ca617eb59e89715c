"""The README's commands do what the README says."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [body for name, body in BLOCK.findall(text) if name == language]


def block_with(language: str, needle: str) -> str:
    (found,) = [body for body in blocks(language) if needle in body]
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Newcomer:
    """A shell in a folder with the demo's photographs, and a Mien on ports of its own."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.http, self.grpc = free_port(), free_port()
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MIEN_HOME": str(home),
            "MIEN_GATEWAY__HTTP_PORT": str(self.http),
            "MIEN_GATEWAY__GRPC_PORT": str(self.grpc),
            "PYTHONPATH": str(ROOT),
        }

    def adapted(self, text: str) -> str:
        text = text.replace(". .venv/bin/activate\n", "")
        return text.replace(":8000", f":{self.http}").replace(":50051", f":{self.grpc}")

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def shell(self, text: str) -> subprocess.CompletedProcess[str]:
        return self.run(["bash", "-euo", "pipefail", "-c", self.adapted(text)])


@pytest.fixture(scope="module")
def newcomer(
    mien_home: Path, portraits: Path, tmp_path_factory: pytest.TempPathFactory
) -> Newcomer:
    folder = tmp_path_factory.mktemp("newcomer")
    for picture in portraits.glob("*.jpg"):
        shutil.copy(picture, folder)
    images = folder / "DIR"
    shutil.copytree(portraits, images)
    rows = ["fold\tpath1\tpath2\tsame"]
    for fold in (1, 2):
        rows += [f"{fold}\tobama.jpg\tobama2.jpg\t1", f"{fold}\tobama.jpg\tbiden.jpg\t0"]
    (folder / "pairs.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return Newcomer(folder, mien_home)


@pytest.fixture(scope="module")
def served(newcomer: Newcomer) -> Iterator[Newcomer]:
    command = newcomer.adapted(block_with("bash", "mien serve\n"))
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command.strip()}"], cwd=newcomer.folder, env=newcomer.environment
    )
    address = f"http://127.0.0.1:{newcomer.http}/healthz/ready"
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            break
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, "mien serve ended"
            assert time.monotonic() < deadline, "mien serve did not become ready"
            time.sleep(0.2)
    yield newcomer
    process.terminate()
    assert process.wait(30) == 0


def test_make_targets_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"\bmake ([a-z]+)", "\n".join(blocks("bash")))
    assert {"demo", "test"} <= set(named)
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_curl_example_gives_the_answer_that_is_shown(served: Newcomer) -> None:
    done = served.shell(block_with("bash", "curl"))
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    shown: dict[str, Any] = json.loads(block_with("json", '"decision"'))
    assert answer["decision"] == shown["decision"] == "same"
    assert answer["similarity"] == pytest.approx(shown["similarity"], abs=0.02)
    assert answer["threshold"] == pytest.approx(shown["threshold"], abs=0.02)
    for name in ("model", "probe", "timing_ms"):
        assert shown[name].keys() <= answer[name].keys()
    assert {name: answer["model"][name] for name in shown["model"]} == shown["model"]


def test_grpc_example_tells_two_people_apart(served: Newcomer) -> None:
    code = served.adapted(block_with("python", "FaceServiceStub"))
    done = served.run([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("DECISION_DIFFERENT")


def test_command_line_examples_run(newcomer: Newcomer) -> None:
    done = newcomer.shell(block_with("bash", "mien verify"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("same: similarity")
    assert '"face_count": 1' in done.stdout


def test_evaluate_example_measures_and_draws(newcomer: Newcomer) -> None:
    done = newcomer.shell(block_with("bash", "mien evaluate"))
    assert done.returncode == 0, done.stderr
    assert "100.00 %" in done.stdout
    assert (newcomer.folder / "curves" / "roc.png").stat().st_size > 1000


def test_every_link_to_a_file_leads_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target
