"""`mien audit` and `mien gallery keys`, as an operator types them."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from services.cli import audit, gallery, subjects
from services.errors import MienError


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))


def mien(app: typer.Typer, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, arguments, standalone_mode=False)
    assert done.exception is None, done.exception
    assert (done.return_value or 0) == code
    return done.stdout


def told(app: typer.Typer, *arguments: str, code: int = 0) -> Any:
    said = mien(app, *arguments, code=code)
    return json.loads(said[said.index("{\n") :])


def test_what_commands_do_is_written_down_and_verified(tmp_path: Path) -> None:
    mien(subjects.app, "create", "ann", "--name", "Ann Secret")
    mien(subjects.app, "consent", "ann", "--withdrawn")
    assert told(subjects.app, "export", "ann")["subject"]["name"] == "Ann Secret"
    mien(gallery.app, "rotate-key")
    shown = told(audit.app, "show", "--subject", "ann", "--json")["records"]
    done = [one["action"] for one in shown if one["outcome"] == "done"]
    assert done == ["subject.store", "consent.withdraw", "export"]
    assert shown[0]["who"].startswith("command:")
    late = told(audit.app, "show", "--subject", "ann", "--since", shown[-1]["at"], "--json")
    assert [one["action"] for one in late["records"]] == ["export"]
    verdict = told(audit.app, "verify", "--json")
    assert verdict["holds"]
    head = verdict["files"][0]["head"]
    mien(subjects.app, "delete", "ann")
    assert told(audit.app, "verify", "--head", head, "--json")["head_found"] is True
    mien(audit.app, "export", "--out", str(tmp_path / "log.jsonl"))
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["action"] == "subject.delete"
    assert "Secret" not in "".join(lines)
    file = tmp_path / "gallery.sqlite3.audit" / "audit-0001.jsonl"
    file.write_text(file.read_text().replace("consent.withdraw", "consent.give"))
    assert "DOES NOT HOLD" in mien(audit.app, "verify", code=1)


def test_old_records_are_archived_and_still_found_by_commands(tmp_path: Path) -> None:
    mien(subjects.app, "create", "ann")
    early = told(audit.app, "verify", "--json")["files"][0]["head"]
    time.sleep(0.005)
    before = datetime.now(UTC).isoformat()
    time.sleep(0.005)
    mien(subjects.app, "consent", "ann", "--withdrawn")
    out = str(tmp_path / "old.jsonl")
    assert "signed" in mien(audit.app, "archive", "--before", before, "--out", out)
    verdict = told(audit.app, "verify", "--json")
    assert verdict["holds"]
    assert verdict["files"][0]["archived"] == 3
    assert told(audit.app, "verify", out, "--json")["holds"]
    assert told(audit.app, "verify", out, "--head", early, "--json")["head_found"] is True
    assert "DOES NOT HOLD" in mien(audit.app, "verify", out, "--head", "0" * 64, code=1)

    def done(*more: str) -> list[str]:
        shown = told(audit.app, "show", "--subject", "ann", "--json", *more)["records"]
        return [one["action"] for one in shown if one["outcome"] == "done"]

    assert done() == ["consent.withdraw"]
    assert done("--segment", out) == ["subject.store", "consent.withdraw"]
    mien(audit.app, "export", "--segment", out, "--out", str(tmp_path / "all.jsonl"))
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    archived = [one for one in rows if one["action"] == "log.archive"]
    assert [one["outcome"] for one in archived] == ["begun", "done"]
    signed = json.loads(Path(out).read_text().splitlines()[-1])
    assert archived[0]["about"]["segment"] == signed["sha256"]
    assert archived[0]["who"].startswith("command:")
    assert "Nothing is older" in mien(audit.app, "archive", "--before", before, "--out", out)


@pytest.mark.parametrize("before", ["soon", "9999-01-01"])
def test_a_time_that_is_none_or_is_to_come_archives_nothing(tmp_path: Path, before: str) -> None:
    mien(subjects.app, "create", "ann")
    out = tmp_path / "old.jsonl"
    done = CliRunner().invoke(audit.app, ["archive", "--before", before, "--out", str(out)])
    assert isinstance(done.exception, MienError)
    assert done.exception.field == "before"
    assert not out.exists()


def test_keys_are_renewed_and_a_tenant_is_ended_by_commands() -> None:
    mien(subjects.app, "create", "ann", "--tenant", "acme")
    mien(subjects.app, "create", "bob")
    keys = told(gallery.app, "keys", "rotate", "--tenant", "acme", "--json")["keys"]
    assert [(one["tenant"], one["version"], one["behind"]) for one in keys] == [
        ("acme", 2, 0),
        ("default", 1, 0),
    ]
    report = told(gallery.app, "delete-tenant", "acme", "--yes", "--json")
    assert (report["subjects"], report["verified"]) == (1, True)
    keys = told(gallery.app, "keys", "list", "--json")["keys"]
    assert [one["tenant"] for one in keys] == ["default"]
    assert told(gallery.app, "retention", "--dry-run", "--json")["due"] == []
