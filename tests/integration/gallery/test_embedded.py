"""What the embedded gallery promises of its own: the disk, the keys, and a death at any moment."""

import asyncio
import base64
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from services.errors import Errors
from services.gallery import Enrolment, Job, NewTemplate, Subject
from services.gallery.embedded import EmbeddedGallery
from services.settings import GallerySettings
from tests.integration.gallery.made import OLD, enrolment, face, space_of
from tests.integration.gallery.test_contract import ACME, enrol, found, refused

REPO = Path(__file__).parents[3]
PLAIN = GallerySettings()


async def opened(path: Path, settings: GallerySettings = PLAIN) -> EmbeddedGallery:
    return await EmbeddedGallery.open(path / "gallery.sqlite3", settings)


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.glob("gallery.sqlite3*")))


async def test_no_vector_and_no_name_can_be_read_off_the_disk(tmp_path: Path) -> None:
    gallery = await opened(tmp_path)
    await enrol(gallery, 1)
    await gallery.put_subject(ACME, Subject("ann", "Annabel Lee", {"city": "Baltimore"}))
    for _ in range(2):  # while it is open, with its log; and when it is closed
        bytes_there = on_disk(tmp_path)
        assert b"ann" in bytes_there, "ids are not encrypted, so this does look at the right files"
        assert b"Annabel" not in bytes_there
        assert b"Baltimore" not in bytes_there
        assert face(1).tobytes()[:8] not in bytes_there
        await gallery.close()


async def test_the_key_is_made_beside_the_database_for_its_owner_alone(tmp_path: Path) -> None:
    gallery = await opened(tmp_path)
    await gallery.close()
    file = tmp_path / "gallery.sqlite3.key"
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(base64.b64decode(file.read_bytes())) == 32


async def test_without_its_key_or_with_another_the_gallery_does_not_open(tmp_path: Path) -> None:
    gallery = await opened(tmp_path)
    await enrol(gallery, 1)
    await gallery.close()
    file = tmp_path / "gallery.sqlite3.key"
    right = file.read_bytes()
    file.unlink()
    with refused(Errors.GALLERY_UNAVAILABLE):
        await opened(tmp_path)
    assert not file.exists(), "no new key is made for an old database"
    file.write_bytes(base64.b64encode(bytes(32)))
    with refused(Errors.GALLERY_UNAVAILABLE):
        await opened(tmp_path)
    file.write_bytes(b"no key at all")
    with refused(Errors.GALLERY_UNAVAILABLE):
        await opened(tmp_path)
    file.unlink()
    given = GallerySettings.model_validate({"master_key": right.decode()})
    gallery = await opened(tmp_path, given)
    assert await found(gallery, 1) == ["person-1"]
    await gallery.close()


async def test_a_row_put_in_the_place_of_another_does_not_open(tmp_path: Path) -> None:
    gallery = await opened(tmp_path)
    await enrol(gallery, 1, 2)
    await gallery.close()
    with sqlite3.connect(tmp_path / "gallery.sqlite3") as database:
        database.execute(
            "UPDATE templates SET sealed = (SELECT sealed FROM templates WHERE id = 't1-0') "
            "WHERE id = 't2-0'"
        )
    database.close()
    with refused(Errors.GALLERY_UNAVAILABLE):
        await opened(tmp_path)


async def test_a_new_master_key_opens_what_the_old_one_closed_and_the_old_one_no_more(
    tmp_path: Path,
) -> None:
    gallery = await opened(tmp_path)
    await enrol(gallery, 1)
    await enrol(gallery, 2, tenant="other")
    file = tmp_path / "gallery.sqlite3.key"
    old = file.read_bytes()
    assert await gallery.rotate_master_key() == file
    assert file.read_bytes() != old
    await enrol(gallery, 3)
    await gallery.close()
    gallery = await opened(tmp_path)
    assert await found(gallery, 3, limit=1) == ["person-3"]
    assert await found(gallery, 2, "other") == ["person-2"]
    await gallery.close()
    with refused(Errors.GALLERY_UNAVAILABLE):
        await opened(tmp_path, GallerySettings.model_validate({"master_key": old.decode()}))


@pytest.mark.parametrize("came_to_its_commit", [False, True])
async def test_a_rotation_killed_half_way_leaves_a_gallery_that_opens(
    tmp_path: Path, came_to_its_commit: bool
) -> None:
    gallery = await opened(tmp_path)
    await enrol(gallery, 1)
    file, draft = tmp_path / "gallery.sqlite3.key", tmp_path / "gallery.sqlite3.key.next"
    old = file.read_bytes()
    if came_to_its_commit:
        await gallery.rotate_master_key()
        file.rename(draft)
        file.write_bytes(old)
    else:
        draft.write_bytes(base64.b64encode(bytes(range(32))))
    await gallery.close()
    gallery = await opened(tmp_path)
    assert await found(gallery, 1) == ["person-1"]
    await gallery.rotate_master_key()
    await gallery.close()
    gallery = await opened(tmp_path)
    assert await found(gallery, 1) == ["person-1"]
    await gallery.close()


async def test_a_key_from_the_environment_is_rotated_into_a_file_that_is_named(
    tmp_path: Path,
) -> None:
    key = base64.b64encode(bytes(range(32))).decode()
    gallery = await opened(tmp_path, GallerySettings.model_validate({"master_key": key}))
    await enrol(gallery, 1)
    assert not (tmp_path / "gallery.sqlite3.key").exists()
    with refused(Errors.INVALID_REQUEST):
        await gallery.rotate_master_key()
    await gallery.rotate_master_key(tmp_path / "new")
    await gallery.close()
    moved = GallerySettings.model_validate({"master_key_file": tmp_path / "new"})
    gallery = await opened(tmp_path, moved)
    assert await found(gallery, 1) == ["person-1"]
    await gallery.close()


async def test_a_second_process_is_told_that_the_gallery_is_held(tmp_path: Path) -> None:
    gallery = await opened(tmp_path)
    with refused(Errors.GALLERY_UNAVAILABLE):
        await opened(tmp_path)
    await gallery.close()
    await (await opened(tmp_path)).close()


async def test_a_gallery_of_a_newer_mien_is_left_alone(tmp_path: Path) -> None:
    await (await opened(tmp_path)).close()
    with sqlite3.connect(tmp_path / "gallery.sqlite3") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with refused(Errors.GALLERY_UNAVAILABLE):
        await opened(tmp_path)


async def test_what_is_deleted_is_overwritten_on_the_disk(tmp_path: Path) -> None:
    gallery = await opened(tmp_path)
    await enrol(gallery, *range(6))
    with sqlite3.connect(tmp_path / "gallery.sqlite3") as database:
        ((sealed,),) = database.execute("SELECT sealed FROM templates WHERE id = 't4-0'").fetchall()
    database.close()
    assert sealed in on_disk(tmp_path)
    report = await gallery.delete_subject(ACME, "person-4")
    assert report.overwritten
    assert report.searchable == {OLD.key: 1}
    assert sealed not in on_disk(tmp_path)
    assert b"person-4" not in on_disk(tmp_path)
    await gallery.close()


async def test_a_job_that_names_a_deleted_subject_is_not_called_proof(tmp_path: Path) -> None:
    gallery = await opened(tmp_path)
    await enrol(gallery, 1)
    await gallery.put_job(Job("careless", {"failed": ["person-1"]}))
    report = await gallery.delete_subject(ACME, "person-1")
    assert not report.verified
    assert report.remaining["jobs"] == 1
    await gallery.close()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
async def test_a_gallery_beyond_exact_scans_still_finds_and_still_forgets(
    tmp_path: Path, metric: str
) -> None:
    space = space_of("large", 64, "cosine" if metric == "cosine" else "euclidean")
    gallery = await opened(tmp_path, GallerySettings(exact_templates=300))
    await gallery.create_collection(space)
    numbers = list(range(1000))
    vectors = np.stack([face(number, space) for number in numbers])
    for start in range(0, 1000, 250):  # it outgrows the exact scan on the way
        some = [
            Enrolment(f"p{number}", [NewTemplate(space, vectors[number])])
            for number in numbers[start : start + 250]
        ]
        await gallery.enrol(ACME, some)
    for number in range(0, 1000, 4):
        await gallery.delete_subject(ACME, f"p{number}")
    left = [number for number in numbers if number % 4]
    for reopened in (False, True):
        if reopened:
            await gallery.close()
            gallery = await opened(tmp_path, GallerySettings(exact_templates=300))
        answers = await gallery.search(
            ACME, space, np.stack([face(number, space, 3) for number in numbers[:200]]), 1
        )
        assert all(int(row[0].subject_id[1:]) % 4 for row in answers)
        same = [int(row[0].subject_id[1:]) for row in answers]
        assert [same[number] for number in left if number < 200] == left[: len(left) * 200 // 1000]
    await gallery.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from services.gallery.embedded import EmbeddedGallery
from services.settings import GallerySettings
from services.telemetry import configure_logging
from tests.integration.gallery.made import OLD, enrolment

configure_logging("error", "text")

async def main() -> None:
    gallery = await EmbeddedGallery.open(Path(sys.argv[1]), GallerySettings())
    await gallery.create_collection(OLD)
    for number in range(int(sys.argv[2]), 10**9):
        await gallery.enrol("acme", [enrolment(number, key=f"k{number}")])
        print(f"+{number}", flush=True)
        if number % 3 == 0:
            print(f"?{number}", flush=True)
            await gallery.delete_subject("acme", f"person-{number}")
            print(f"-{number}", flush=True)

asyncio.run(main())
"""


def killed_writer(path: Path, start: int, seconds: float) -> list[str]:
    """What a process said that enrolled and deleted from a number on, until it was killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(start)],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    first = process.stdout.readline()  # it is at work
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    said = (first + process.stdout.read()).decode()
    process.stdout.close()
    process.wait()
    return said.splitlines()


async def test_a_writer_killed_at_any_moment_loses_nothing_that_it_acknowledged(
    tmp_path: Path,
) -> None:
    path = tmp_path / "gallery.sqlite3"
    chance = random.Random(5)  # noqa: S311 - moments, not secrets
    stored: set[int] = set()
    deleted: set[int] = set()
    doubtful: set[int] = set()
    start = 0
    for _ in range(4):
        said = await asyncio.to_thread(killed_writer, path, start, chance.uniform(0.02, 0.5))
        for line in said:
            number = int(line[1:])
            start = max(start, number + 1)
            if line[0] == "+":
                stored.add(number)
            elif line[0] == "?":
                doubtful.add(number)
            else:
                deleted.add(number)
        gallery = await opened(tmp_path)
        there = {int(one.subject_id[7:]) for one in await gallery.scan(OLD, 0, 10_000)}
        assert stored - doubtful <= there
        assert not deleted & there
        assert there - stored <= {start}, "at most the one that was under way came besides"
        assert await gallery.searchable(ACME, OLD) == len(there)
        for number in sorted(there)[-3:]:
            (again,) = await gallery.enrol(ACME, [enrolment(number, key=f"k{number}")])
            assert again.repeated
            assert (await found(gallery, number))[0] == f"person-{number}"
        await gallery.close()
        stored |= there
        start += 1
    assert len(stored) > 8
    assert deleted
