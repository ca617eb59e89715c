"""`mien subjects` and `mien identify`, and what a running Mien writes down of people: nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import MienProcess, fresh_gallery, run_mien
from tests.integration.pictures import faceless, jpeg, portrait
from tests.integration.subjects.people import pictures

BLOCK = re.compile(r"^```(?:bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Desk:
    """A person at a desk, with a gallery of their own."""

    def __init__(self, home: Path) -> None:
        self._home, self._gallery = home, fresh_gallery()

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        done = run_mien(self._home, *arguments, GALLERY__URI=self._gallery)
        return done.returncode, done.stdout, done.stderr

    def json(self, *arguments: object) -> Any:
        code, out, complaint = self(*arguments, "--json")
        assert code == 0, complaint
        return json.loads(out)


@pytest.fixture
def desk(mien_home: Path) -> Desk:
    return Desk(mien_home)


def test_a_person_is_enrolled_found_and_forgotten(
    desk: Desk, portraits: Path, tmp_path: Path
) -> None:
    enrolled = desk.json(
        "subjects", "enrol", "s-1", portraits / "obama.jpg", "--name", "Ada", "--metadata", "k=v"
    )
    assert enrolled["outcome"] == "enrolled"
    (listed,) = desk.json("subjects", "list")["subjects"]
    assert (listed["id"], listed["name"], listed["metadata"]) == ("s-1", "Ada", {"k": "v"})
    code, told, _ = desk("identify", portraits / "obama2.jpg")
    assert (code, "known; nearest s-1" in told) == (0, True)
    code, told, _ = desk("identify", portraits / "biden.jpg")
    assert (code, "unknown" in told) == (1, True)
    code, _, complaint = desk("subjects", "enrol", "s-2", portraits / "obama2.jpg")
    assert code == 3
    assert "Another subject would be identified by this face." in complaint
    empty = tmp_path / "empty.jpg"
    empty.write_bytes(faceless())
    code, told, _ = desk("subjects", "enrol", "s-2", empty)
    assert (code, "no_face" in told) == (2, True)
    assert desk("subjects", "consent", "s-1", "--withdrawn")[0] == 0
    assert desk("identify", portraits / "obama2.jpg")[0] == 1
    report = desk.json("subjects", "delete", "s-1")
    assert (report["verified"], sum(report["templates"].values())) == (True, 1)
    assert desk("subjects", "show", "s-1")[0] == 3


def test_subjects_are_created_and_shown(desk: Desk) -> None:
    assert desk.json("subjects", "create", "s-1", "--name", "Ada")["subject"]["name"] == "Ada"
    code, _, complaint = desk("subjects", "create", "s-1")
    assert (code, "There is such a subject already." in complaint) == (3, True)
    assert desk.json("subjects", "show", "s-1")["templates"] == []
    assert desk.json("subjects", "list", "--tenant", "other")["subjects"] == []
    assert desk("subjects", "create", "s-2", "--metadata", "no sign")[0] == 3


def test_the_documents_examples_run(mien_home: Path, portraits: Path, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "subjects.md").read_text(encoding="utf-8")
    for subject, picture in (("s-1", "obama.jpg"), ("s-2", "biden.jpg")):
        (tmp_path / "people" / subject).mkdir(parents=True)
        shutil.copy(portraits / picture, tmp_path / "people" / subject)
    # In place of the zip command, which not every machine has.
    shutil.make_archive(str(tmp_path / "people"), "zip", tmp_path / "people")
    for file in portraits.glob("*.jpg"):
        shutil.copy(file, tmp_path)
    with (tmp_path / "log").open("wb") as log, MienProcess(mien_home, log) as server:
        server.wait_until_ready()

        def told(start: str, *command: str) -> str:
            (code,) = [body for body in BLOCK.findall(page) if body.startswith(start)]
            code = code.replace(":8000", f":{server.http_port}").replace("zip -q", ": zip -q")
            code = code.replace(":50051", f":{server.grpc_port}")
            done = subprocess.run(
                [*command, code], cwd=tmp_path, capture_output=True, text=True, check=False,
                timeout=120, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            return done.stdout

        answers = told("M=http", "bash", "-euc")
        assert answers.count('"request_id"') == 7
        assert '"outcome":"enrolled"' in answers
        assert '"verified":true' in answers
        assert "urn:mien:error" not in answers
        lines = told("import grpc", sys.executable, "-c").splitlines()
        assert lines[:3] == ["0 s-1 stored", "1 s-2 stored", "2 s-3 duplicate_subject"]
        assert lines[3:] == ["IDENTIFICATION_DECISION_KNOWN s-1"]
        rows = [json.loads(line) for line in told("zip -q", "bash", "-euc").splitlines()]
        assert [one["outcome"] for one in rows] == ["enrolled", "enrolled"]
        server.stop()


def test_the_log_holds_nothing_of_the_people(
    mien_home: Path, portraits: Path, tmp_path: Path
) -> None:
    picture = jpeg(portrait(portraits, "obama.jpg"))
    log = tmp_path / "log"
    secrets = {"name": "Ada-Secretname", "metadata": '{"door": "secretdoor"}'}
    with (
        log.open("wb") as file,
        MienProcess(mien_home, file, LOG_LEVEL="debug") as server,
        server.wait_until_ready().mien.client() as api,
    ):
        path = "/v1/subjects/secretid/templates"
        assert api.post(path, files=pictures(picture), data=secrets).status_code == 201
        twin = api.post("/v1/subjects/twin/templates", files=pictures(picture), data=secrets)
        assert twin.status_code == 409
        assert api.post("/v1/identify", files=pictures(picture)).status_code == 200
        assert api.get("/v1/subjects/secretid").status_code == 200
        assert api.delete("/v1/subjects/secretid").status_code == 200
        assert api.get("/v1/subjects/secretid").status_code == 404
        metrics = api.get("/metrics").text
        server.stop()
    written = log.read_text(encoding="utf-8") + metrics
    assert "gateway ready" in written
    for secret in ("Secretname", "secretdoor", "secretid"):
        assert secret not in written
