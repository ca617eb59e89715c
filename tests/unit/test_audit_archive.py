"""The audit log shortened: nothing is lost or can be cut, and the rest still proves itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.audit.anchor import AnchorKey
from services.audit.archive import parts_before, shorten, write_archive
from services.audit.log import AuditLog, head_of
from services.audit.read import Filter, read
from services.audit.record import Action, Entry
from services.audit.segment import Segment, join, verify_segment
from services.audit.verify import verify
from services.errors import MienError

REPO = Path(__file__).parents[2]
KEY = AnchorKey(bytes(range(32)))
FILE = "audit-0001.jsonl"


def entry(name: str) -> Entry:
    return Entry(Action.ENROL, "key-1", "acme", name)


def write(folder: Path, *names: str) -> None:
    log = AuditLog(folder, KEY)
    for name in names:
        log.append([entry(name)]).result()
    log.close()


def later() -> datetime:
    """A time after all that was written, and before all that will be."""
    time.sleep(0.003)
    now = datetime.now(UTC)
    time.sleep(0.003)
    return now


def archive(folder: Path, out: Path, before: datetime) -> Path:
    parts = parts_before(folder, KEY, before)
    draft, _ = write_archive(out, folder, KEY, parts, before)
    shorten(draft, out, folder, KEY, parts)
    return out


def subjects(folder: Path, *segments: Path) -> list[str]:
    found = read(folder, Filter(tenant="acme"), segments=segments)
    return [one["subject"] for one in found]


def joined(folder: Path, *files: Path) -> list[Segment]:
    segments = [verify_segment(one, KEY) for one in files]
    join(segments, folder, KEY)
    return segments


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log of three old records."""
    made = tmp_path / "log"
    write(made, "a", "b", "c")
    return made


def test_old_records_move_into_a_file_that_proves_itself_and_the_log_goes_on(
    folder: Path, tmp_path: Path
) -> None:
    before = later()
    write(folder, "d")
    head = verify(folder, KEY).files[0].head
    out = archive(folder, tmp_path / "old.jsonl", before)
    (segment,) = joined(folder, out)
    assert segment.holds
    assert [(one.archived, one.records) for one in segment.checked] == [(0, 4)]
    verdict = verify(folder, KEY, head)
    assert verdict.holds
    assert [(one.archived, one.records) for one in verdict.files] == [(4, 2)]
    assert subjects(folder) == ["d"]
    assert subjects(folder, out) == ["a", "b", "c", "d"]
    write(folder, "e")
    assert verify(folder, KEY, head).holds, "what was signed before still is"
    assert subjects(folder, out) == ["a", "b", "c", "d", "e"]


def test_archives_follow_each_other_and_one_that_is_left_out_is_missed(
    folder: Path, tmp_path: Path
) -> None:
    first = archive(folder, tmp_path / "1.jsonl", later())
    assert verify(folder, KEY).holds, "a log of which all is archived holds"
    write(folder, "d")
    second = archive(folder, tmp_path / "2.jsonl", later())
    write(folder, "e")
    third = archive(folder, tmp_path / "3.jsonl", later())
    assert all(one.holds for one in joined(folder, third, first, second))
    assert subjects(folder, first, second, third) == ["a", "b", "c", "d", "e"]
    assert not all(one.holds for one in joined(folder, first, third))
    assert not all(one.holds for one in joined(folder, first, second)), "the log is further"
    assert all(one.holds for one in joined(folder, third))


def test_nothing_is_archived_of_a_log_that_does_not_hold(folder: Path, tmp_path: Path) -> None:
    file = folder / FILE
    file.write_bytes(file.read_bytes().replace(b'"a"', b'"x"'))
    with pytest.raises(MienError, match="does not hold"):
        parts_before(folder, KEY, later())
    assert not list(tmp_path.glob("*.jsonl"))


def test_a_file_that_is_there_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "old.jsonl"
    out.write_text("mine")
    with pytest.raises(MienError, match="there already"):
        archive(folder, out, later())
    assert out.read_text() == "mine"
    assert subjects(folder) == ["a", "b", "c"]


def test_a_change_of_any_byte_of_an_archive_is_found(folder: Path, tmp_path: Path) -> None:
    out = archive(folder, tmp_path / "old.jsonl", later())
    content = out.read_bytes()
    for at in range(len(content)):
        spoilt = bytearray(content)
        spoilt[at] ^= 1
        out.write_bytes(spoilt)
        assert not verify_segment(out, KEY).holds, f"byte {at}"
    for part in (content[:-1], content[:200], b"", content + b"x", content + content):
        out.write_bytes(part)
        assert not verify_segment(out, KEY).holds
    out.write_bytes(content)
    assert verify_segment(out, KEY).holds
    assert not verify_segment(out, AnchorKey(bytes(32))).holds


def test_a_change_of_any_byte_of_where_the_log_begins_is_found(
    folder: Path, tmp_path: Path
) -> None:
    before = later()
    write(folder, "d")
    archive(folder, tmp_path / "old.jsonl", before)
    file = folder / FILE
    content = file.read_bytes()
    for at in range(len(content)):
        spoilt = bytearray(content)
        spoilt[at] ^= 1
        file.write_bytes(spoilt)
        assert not verify(folder, KEY).holds, f"byte {at}"


def without_base(lines: list[bytes]) -> list[bytes]:
    return lines[1:]


def without_first_record(lines: list[bytes]) -> list[bytes]:
    return [lines[0], *lines[2:]]


def with_forged_base(lines: list[bytes]) -> list[bytes]:
    """As somebody without the key would have it who cuts one record more."""
    told, cut = json.loads(lines[0]), json.loads(lines[1])
    told["base"] |= {"n": cut["n"], "hash": cut["hash"]}
    line = json.dumps(told, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    return [line, *lines[2:]]


def base_doubled(lines: list[bytes]) -> list[bytes]:
    return [lines[0], *lines]


@pytest.mark.parametrize(
    "tamper", [without_base, without_first_record, with_forged_base, base_doubled]
)
def test_the_rest_cannot_be_cut_at_its_beginning(
    folder: Path, tmp_path: Path, tamper: Callable[[list[bytes]], list[bytes]]
) -> None:
    before = later()
    write(folder, "d", "e")
    archive(folder, tmp_path / "old.jsonl", before)
    file = folder / FILE
    file.write_bytes(b"".join(tamper(file.read_bytes().splitlines(keepends=True))))
    assert not verify(folder, KEY).holds
    write(folder, "f")
    assert not verify(folder, KEY).holds, "a new start covers nothing up"


def test_an_anchor_from_before_the_archive_is_no_anchor_of_the_rest(
    folder: Path, tmp_path: Path
) -> None:
    early = head_of(folder / FILE).read_bytes()
    write(folder, "d")
    archive(folder, tmp_path / "old.jsonl", later())
    head_of(folder / FILE).write_bytes(early)
    assert not verify(folder, KEY).holds


def test_a_process_that_writes_meanwhile_goes_on_without_a_gap(
    folder: Path, tmp_path: Path
) -> None:
    log = AuditLog(folder, KEY, anchor_seconds=0.01)
    stop = threading.Event()
    names: list[str] = []

    def work() -> None:
        while not stop.is_set():
            name = f"w{len(names)}"
            log.append([entry(name)]).result()
            names.append(name)

    thread = threading.Thread(target=work)
    thread.start()
    outs = []
    for number in range(5):
        time.sleep(0.05)
        outs.append(archive(folder, tmp_path / f"{number}.jsonl", datetime.now(UTC)))
    stop.set()
    thread.join()
    log.close()
    verdict = verify(folder, KEY)
    assert verdict.holds, verdict.files
    assert [one.file for one in verdict.files] == [FILE]
    assert all(one.holds for one in joined(folder, *outs))
    assert subjects(folder, *outs) == ["a", "b", "c", *names]


def test_somebody_elses_archive_in_between_stops_this_one(folder: Path, tmp_path: Path) -> None:
    before = later()
    parts = parts_before(folder, KEY, before)
    late = tmp_path / "late.jsonl"
    draft, _ = write_archive(late, folder, KEY, parts, before)
    out = archive(folder, tmp_path / "old.jsonl", before)
    with pytest.raises(MienError, match="meanwhile"):
        shorten(draft, late, folder, KEY, parts)
    assert not late.exists()
    assert subjects(folder, out) == ["a", "b", "c"]
    assert verify(folder, KEY).holds


ARCHIVER = """
import sys
from datetime import datetime
from pathlib import Path
from services.audit import archive as at
from services.audit.anchor import AnchorKey
import os, signal

folder, out, before, step = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
key, steps = AnchorKey(bytes(range(32))), 0

def counted(work):
    def do(*given, **named):
        global steps
        if steps == step:
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1
        return work(*given, **named)
    return do

for name in ("open", "fsync"):
    setattr(os, name, counted(getattr(os, name)))
Path.replace = counted(Path.replace)
moment = datetime.fromisoformat(before)
parts = at.parts_before(folder, key, moment)
draft, _ = at.write_archive(out, folder, key, parts, moment)
at.shorten(draft, out, folder, key, parts)
print(steps)
"""


def test_a_kill_at_any_step_loses_no_record_and_leaves_a_log_that_holds(tmp_path: Path) -> None:
    """Killed before each call that touches the disk, with three files to shorten."""
    step, killed = 0, True
    while killed:
        folder = tmp_path / str(step)
        logs = [AuditLog(folder, KEY) for _ in range(3)]
        for number, log in enumerate(logs):
            log.append([entry(f"old{number}")]).result()
        for log in logs:
            log.close()
        before = later()
        write(folder, "new")
        out = folder / "out"
        done = subprocess.run(
            [sys.executable, "-c", ARCHIVER, str(folder), str(out), before.isoformat(), str(step)],
            cwd=REPO,
            stdout=subprocess.PIPE,
            check=False,
        )
        killed = done.returncode == -signal.SIGKILL
        assert killed or done.returncode == 0
        assert verify(folder, KEY).holds, f"step {step}"
        whole = [out] if out.exists() else []
        assert all(one.holds for one in joined(folder, *whole)), f"step {step}"
        assert set(subjects(folder, *whole)) == {"old0", "old1", "old2", "new"}, f"step {step}"
        again = archive(folder, folder / "again", before)
        assert all(one.holds for one in joined(folder, *whole, again)), f"step {step}"
        assert subjects(folder) == ["new"]
        assert not list(folder.glob("*.jsonl.next"))
        step += 1
    assert step > 10


def test_a_process_killed_while_others_archive_leaves_a_log_that_holds(tmp_path: Path) -> None:
    folder, told = tmp_path / "log", 0
    script = (
        "import sys\nfrom pathlib import Path\nfrom services.audit.anchor import AnchorKey\n"
        "from services.audit.log import AuditLog\nfrom services.audit.record import Action, Entry\n"
        "log = AuditLog(Path(sys.argv[1]), AnchorKey(bytes(range(32))), 0.01)\n"
        "while True:\n"
        "    log.append([Entry(Action.ENROL, 'k', 'acme', 's')]).result()\n"
        "    print(flush=True)\n"
    )
    outs: list[Path] = []
    for number in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", script, str(folder)], cwd=REPO, stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        told += len(writer.stdout.readline())
        time.sleep(0.05 + 0.07 * number)
        outs.append(archive(folder, tmp_path / f"{number}.jsonl", datetime.now(UTC)))
        os.kill(writer.pid, signal.SIGKILL)
        told += len(writer.stdout.read())
        writer.wait()
        writer.stdout.close()
        assert verify(folder, KEY).holds
    assert all(one.holds for one in joined(folder, *outs))
    assert len(subjects(folder, *outs)) >= told, "what was acknowledged is there"


def test_a_full_disk_leaves_the_log_whole_and_no_half_archive(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = later()
    with monkeypatch.context() as patch:

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr("services.audit.segment.os.fsync", full)
        with pytest.raises(OSError, match="space"):
            archive(folder, tmp_path / "old.jsonl", before)
    assert [one.name for one in tmp_path.iterdir()] == ["log"]
    assert subjects(folder) == ["a", "b", "c"]
    assert verify(folder, KEY).holds


def test_a_log_that_signs_at_once_has_no_record_that_is_not_signed(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, KEY, anchor_seconds=0)
    for name in ("a", "b"):
        log.append([entry(name)]).result()
        (file,) = verify(tmp_path, KEY).files
        assert file.anchored == file.records
    content = log.file.read_bytes()
    log.file.write_bytes(b"".join(content.splitlines(keepends=True)[:-1]))
    assert not verify(tmp_path, KEY).holds, "the last record cannot be cut, even after a crash"
    log.file.write_bytes(content)
    log.close()
    assert verify(tmp_path, KEY).holds


def test_a_record_that_cannot_be_signed_at_once_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(tmp_path, KEY, anchor_seconds=0)
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr("services.audit.anchor.put", full)
        with pytest.raises(OSError, match="space"):
            log.append([entry("a")]).result()
    log.append([entry("b")]).result()
    log.close()
    assert verify(tmp_path, KEY).holds
    assert subjects(tmp_path) == ["b"]
