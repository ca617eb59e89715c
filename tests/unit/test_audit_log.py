"""The audit log: what was written can neither be changed nor cut without being found out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services.audit.anchor import Anchor, AnchorKey
from services.audit.caller import use_caller
from services.audit.log import AuditLog, head_of
from services.audit.read import Filter, read
from services.audit.record import START, Action, Entry, canonical, hash_of
from services.audit.trail import Trail
from services.audit.verify import verify
from services.errors import Errors, MienError
from services.settings import Settings

REPO = Path(__file__).parents[2]
KEY = AnchorKey(bytes(range(32)))
FILE = "audit-0001.jsonl"


def entry(number: int) -> Entry:
    return Entry(Action.ENROL, "key-1", "acme", f"s-{number}", counts={"templates": 1})


def written(folder: Path, count: int = 4) -> Path:
    log = AuditLog(folder, KEY)
    for number in range(count):
        log.append([entry(number)]).result()
    log.close()
    return folder / FILE


def lines_of(file: Path) -> list[bytes]:
    return file.read_bytes().splitlines(keepends=True)


def test_a_log_that_nobody_touched_holds(tmp_path: Path) -> None:
    written(tmp_path)
    written(tmp_path)
    verdict = verify(tmp_path, KEY)
    assert verdict.holds
    (file,) = verdict.files
    assert (file.records, file.anchored) == (10, 10), "two openings and eight records"
    assert verify(tmp_path, KEY, file.head).holds
    assert not verify(tmp_path, KEY, "0" * 64).holds


def test_a_change_of_any_byte_is_found(tmp_path: Path) -> None:
    file = written(tmp_path, 3)
    content = file.read_bytes()
    for at in range(len(content)):
        spoilt = bytearray(content)
        spoilt[at] ^= 1
        file.write_bytes(spoilt)
        assert not verify(tmp_path, KEY).holds, f"byte {at}"
    file.write_bytes(content)
    assert verify(tmp_path, KEY).holds


def test_a_change_of_any_byte_of_an_anchor_is_found(tmp_path: Path) -> None:
    head = head_of(written(tmp_path, 1))
    content = head.read_bytes()
    for at in range(len(content) - 1):  # the line's end says nothing
        spoilt = bytearray(content)
        spoilt[at] ^= 1
        head.write_bytes(spoilt)
        assert not verify(tmp_path, KEY).holds, f"byte {at}"


def left_out(lines: list[bytes]) -> list[bytes]:
    return lines[:2] + lines[3:]


def swapped(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[2], lines[1], *lines[3:]]


def doubled(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[1], *lines[2:]]


def beginning_cut(lines: list[bytes]) -> list[bytes]:
    return lines[1:]


def end_cut(lines: list[bytes]) -> list[bytes]:
    return lines[:-1]


def half_a_record_cut(lines: list[bytes]) -> list[bytes]:
    return [*lines[:-1], lines[-1][:40]]


def all_written_anew(lines: list[bytes]) -> list[bytes]:
    """Another history whose chain is right: all that somebody without the key can do."""
    before, made = START, []
    for line in lines:
        told = json.loads(line)
        told["who"], told["prev"] = "somebody", before
        before = told["hash"] = hash_of(told)
        made.append(canonical(told) + b"\n")
    return made


@pytest.mark.parametrize(
    "tamper",
    [left_out, swapped, doubled, beginning_cut, end_cut, half_a_record_cut, all_written_anew],
)
def test_records_that_are_cut_moved_or_made_up_are_found(
    tmp_path: Path, tamper: Callable[[list[bytes]], list[bytes]]
) -> None:
    file = written(tmp_path)
    file.write_bytes(b"".join(tamper(lines_of(file))))
    assert not verify(tmp_path, KEY).holds
    spoilt = file.read_bytes()
    written(tmp_path, 1)
    assert not verify(tmp_path, KEY).holds, "a new start covers nothing up"
    if tamper in (end_cut, half_a_record_cut, all_written_anew, left_out, beginning_cut):
        assert file.read_bytes() == spoilt, "what does not end as it was signed is left alone"
        assert (tmp_path / "audit-0002.jsonl").exists()


def test_an_anchor_signed_without_the_key_is_found(tmp_path: Path) -> None:
    file = written(tmp_path)
    lines = lines_of(file)[:-1]
    file.write_bytes(b"".join(lines))
    last, first = json.loads(lines[-1]), json.loads(lines[0])
    forged = Anchor(first["about"]["log"], last["n"], last["hash"], file.stat().st_size)
    AnchorKey(bytes(32)).write(head_of(file), forged)
    (checked,) = verify(tmp_path, KEY).files
    assert ("signature" in checked.faults[0][1]) is True
    head_of(file).unlink()
    assert not verify(tmp_path, KEY).holds


def test_a_log_set_back_with_its_anchor_is_found_by_a_head_noted_elsewhere(tmp_path: Path) -> None:
    file = written(tmp_path, 2)
    early = {one: one.read_bytes() for one in (file, head_of(file))}
    written(tmp_path, 2)
    noted = verify(tmp_path, KEY).files[0].head
    for one, content in early.items():
        one.write_bytes(content)
    assert verify(tmp_path, KEY).holds, "both files are as they once were, rightly signed"
    assert not verify(tmp_path, KEY, noted).holds


def test_what_another_file_saw_is_missed(tmp_path: Path) -> None:
    first = AuditLog(tmp_path, KEY)
    second = AuditLog(tmp_path, KEY)
    assert first.file != second.file, "no two processes write one file"
    for log in (first, second):
        log.append([entry(1)]).result()
        log.close()
    assert verify(tmp_path, KEY).holds
    for file in (first.file, head_of(first.file)):
        file.unlink()
    assert verify(tmp_path, KEY).missing == [first.file.name]


def test_many_writers_at_once_make_one_chain(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, KEY)
    numbers: list[int] = []

    def work() -> None:
        for number in range(50):
            numbers.extend(log.append([entry(number), entry(number)]).result())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    log.close()
    assert sorted(numbers) == list(range(2, 802)), "each caller is told its own records' numbers"
    verdict = verify(tmp_path, KEY)
    assert verdict.holds
    assert verdict.files[0].records == 801


WRITER = """
import sys
from pathlib import Path
from services.audit.anchor import AnchorKey
from services.audit.log import AuditLog
from services.audit.record import Action, Entry

log = AuditLog(Path(sys.argv[1]), AnchorKey(bytes(range(32))), anchor_seconds=0.05)
while True:
    (number,) = log.append([Entry(Action.ENROL, "key-1", "acme", "s" * 200)]).result()
    print(number, flush=True)
"""


def test_a_process_killed_at_any_moment_leaves_a_log_that_holds(tmp_path: Path) -> None:
    for delay in (0.0, 0.02, 0.11):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], cwd=REPO, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        told = int((first + process.stdout.read()).split()[-1])
        process.wait()
        process.stdout.close()
        verdict = verify(tmp_path, KEY)
        assert verdict.holds
        assert verdict.files[0].records >= told, "what was acknowledged is there"
    with (tmp_path / FILE).open("ab") as torn:
        torn.write(b'{"about":{},"action":"en')  # a process was killed over this record
    assert verify(tmp_path, KEY).holds
    written(tmp_path, 1)
    verdict = verify(tmp_path, KEY)
    assert verdict.holds
    assert [one.file for one in verdict.files] == [FILE], "the file is gone on with"


def test_a_disk_that_fails_leaves_no_half_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(tmp_path, KEY)
    log.append([entry(1)]).result()
    write = os.pwrite

    def full(handle: int, content: bytes, at: int) -> int:
        write(handle, content[:30], at)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("services.audit.log.os.pwrite", full)
        with pytest.raises(OSError, match="space"):
            log.append([entry(2)]).result()
    log.append([entry(3)]).result()
    log.close()
    assert verify(tmp_path, KEY).holds
    subjects = [one["subject"] for one in read(tmp_path, Filter(tenant="acme"))]
    assert subjects == ["s-1", "s-3"]


def settings_for(home: Path, **audit: object) -> Settings:
    return Settings.model_validate({"home": home, "audit": audit})


async def test_a_change_is_written_down_before_it_is_made_and_when_it_ended(tmp_path: Path) -> None:
    trail = Trail(settings_for(tmp_path))
    with use_caller("key-7"):
        async with trail.change(Action.SUBJECT_DELETE, "acme", ["ann"]) as counts:
            begun = list(read(trail.place.folder, Filter(subject="ann")))
            counts["templates"] = 2
        with pytest.raises(MienError):
            async with trail.change(Action.SUBJECT_DELETE, "acme", ["bob"]):
                raise MienError(Errors.SUBJECT_UNKNOWN, "There is no such subject.")
    await trail.close()
    assert [one["outcome"] for one in begun] == ["begun"]
    done = list(read(trail.place.folder, Filter(subject="ann")))[-1]
    assert (done["outcome"], done["of"], done["who"]) == ("done", begun[0]["n"], "key-7")
    assert done["counts"] == {"templates": 2}
    refused = list(read(trail.place.folder, Filter(subject="bob")))[-1]
    assert refused["outcome"] == "subject_unknown"


async def test_who_was_turned_away_is_written_down_and_a_broken_log_turns_nobody_away_twice(
    tmp_path: Path,
) -> None:
    trail = Trail(settings_for(tmp_path))
    with use_caller("key-7"):
        await trail.refused("permission_denied", "acme")
    await trail.close()
    (told,) = read(trail.place.folder, Filter("acme"))
    names = ("action", "who", "outcome")
    assert [told[name] for name in names] == ["access.refused", "key-7", "permission_denied"]
    (tmp_path / "file").touch()
    broken = Trail(settings_for(tmp_path, folder=tmp_path / "file" / "audit"))
    await broken.refused("permission_denied")


async def test_pseudonyms_stand_for_subjects_where_they_are_wanted(tmp_path: Path) -> None:
    trail = Trail(settings_for(tmp_path, subjects="hashed", candidates=True))
    await trail.note(Action.ENROL, "acme", ["ann"])
    async with trail.search(Action.IDENTIFY, "acme") as told:
        told.subjects = ["ann"]
    await trail.close()
    everything = b"".join(one.read_bytes() for one in trail.place.folder.glob("*.jsonl"))
    assert b"ann" not in everything
    found = list(read(trail.place.folder, Filter("acme", "ann"), trail.key()))
    assert [one["action"] for one in found] == ["enrol", "identify"]
    assert not list(read(trail.place.folder, Filter("acme", "bob"), trail.key()))


@pytest.mark.parametrize("required", [True, False])
async def test_what_cannot_be_written_down_is_refused_unless_it_is_told_not_to_be(
    tmp_path: Path, required: bool
) -> None:
    (tmp_path / "file").touch()
    trail = Trail(settings_for(tmp_path, folder=tmp_path / "file" / "audit", required=required))
    done = False
    if required:
        with pytest.raises(MienError) as refused:
            async with trail.change(Action.SUBJECT_DELETE, "acme", ["ann"]):
                done = True
        assert refused.value.error is Errors.AUDIT_UNAVAILABLE
    else:
        async with trail.change(Action.SUBJECT_DELETE, "acme", ["ann"]):
            done = True
    assert done is not required
    await trail.close()
