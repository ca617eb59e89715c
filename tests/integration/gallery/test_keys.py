"""Keys of the embedded gallery: renewed while it is in use, kept elsewhere, destroyed."""

import asyncio
import base64
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from services.errors import Errors, MienError
from services.gallery import Enrolment, NewTemplate
from services.gallery.embedded import EmbeddedGallery
from services.gallery.embedded.keys import Cipher, new_key, write_key
from services.gallery.embedded.schema import _STEPS
from services.gallery.embedded.wrapping import KeyCommand
from services.settings import GallerySettings
from tests.integration.gallery.made import OLD, enrolment, face

REPO = Path(__file__).parents[3]
ACME = "acme"
MANY = 900


async def opened(path: Path, settings: GallerySettings | None = None) -> EmbeddedGallery:
    return await EmbeddedGallery.open(path / "gallery.sqlite3", settings or GallerySettings())


async def filled(path: Path, count: int, tenant: str = ACME) -> EmbeddedGallery:
    gallery = await opened(path)
    await gallery.create_collection(OLD)
    await gallery.enrol(tenant, [enrolment(number) for number in range(count)])
    return gallery


async def all_found(gallery: EmbeddedGallery, numbers: range, tenant: str = ACME) -> bool:
    probes = [face(number) for number in numbers]
    answers = [(await gallery.search(tenant, OLD, probe[None], 1))[0] for probe in probes[::50]]
    rows = {one.subject_id: one for one in await gallery.scan(OLD, 0, 10_000)}
    same = all(np.allclose(rows[f"person-{n}"].vector, face(n), atol=1e-6) for n in numbers)
    return same and [row[0].subject_id for row in answers] == [
        f"person-{number}" for number in numbers[::50]
    ]


def wrapped_keys(path: Path) -> list[bytes]:
    with sqlite3.connect(path / "gallery.sqlite3") as connection:
        return [row for (row,) in connection.execute("SELECT wrapped FROM keys ORDER BY number")]


async def test_a_key_is_renewed_while_people_are_enrolled_and_found(tmp_path: Path) -> None:
    gallery = await filled(tmp_path, MANY)
    (before,) = wrapped_keys(tmp_path)
    assert await gallery.keys.rotate() == [ACME]
    for number in range(MANY, MANY + 60):  # new rows are sealed with the new key at once
        await gallery.enrol(ACME, [enrolment(number)])
        found = await gallery.search(ACME, OLD, face(number - MANY)[None], 1)
        assert found[0][0].subject_id == f"person-{number - MANY}"
    await gallery.keys.finished()
    (key,) = await gallery.keys.all()
    assert (key.tenant, key.version, key.behind) == (ACME, 2, 0)
    assert await all_found(gallery, range(MANY + 60))
    await gallery.close()
    after = wrapped_keys(tmp_path)
    assert len(after) == 1
    assert after[0] != before
    assert before not in (tmp_path / "gallery.sqlite3").read_bytes(), "the old key is overwritten"
    again = await opened(tmp_path)
    assert await all_found(again, range(MANY + 60))
    await again.close()


async def test_only_the_tenants_that_are_named_get_new_keys(tmp_path: Path) -> None:
    gallery = await filled(tmp_path, 3)
    await gallery.enrol("other", [enrolment(1)])
    assert await gallery.keys.rotate(["other"]) == ["other"]
    await gallery.keys.finished()
    assert [(one.tenant, one.version) for one in await gallery.keys.all()] == [
        (ACME, 1),
        ("other", 2),
    ]
    with pytest.raises(MienError) as refused:
        await gallery.keys.rotate(["nobody"])
    assert refused.value.error is Errors.INVALID_REQUEST
    await gallery.close()


ROTATOR = """
import asyncio, sys
from pathlib import Path
from services.gallery.embedded import EmbeddedGallery
from services.settings import GallerySettings

async def main() -> None:
    gallery = await EmbeddedGallery.open(Path(sys.argv[1]), GallerySettings())
    while True:
        await gallery.keys.rotate()
        print("rotating", flush=True)
        await gallery.keys.finished()

asyncio.run(main())
"""


def killed_rotation(path: Path, seconds: float) -> None:
    """Kills a process so many seconds after it has begun to renew the keys."""
    process = subprocess.Popen(
        [sys.executable, "-c", ROTATOR, str(path / "gallery.sqlite3")],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


async def test_a_renewal_that_is_killed_at_any_moment_is_gone_on_with(tmp_path: Path) -> None:
    await (await filled(tmp_path, MANY)).close()
    chance = random.Random(3)  # noqa: S311 - moments, not secrets
    half_way = 0
    for _ in range(3):
        await asyncio.to_thread(killed_rotation, tmp_path, chance.uniform(0.0, 0.08))
        half_way += len(wrapped_keys(tmp_path)) > 1
        gallery = await opened(tmp_path)
        await gallery.keys.finished()
        (key,) = await gallery.keys.all()
        assert key.behind == 0
        assert await all_found(gallery, range(MANY))
        await gallery.close()
        assert len(wrapped_keys(tmp_path)) == 1
    assert half_way, "no kill met a renewal half-way"


async def test_a_deleted_tenant_leaves_neither_rows_nor_keys(tmp_path: Path) -> None:
    gallery = await filled(tmp_path, 20)
    await gallery.enrol("other", [enrolment(1)])
    destroyed = wrapped_keys(tmp_path)[0]
    report = await gallery.delete_tenant(ACME)
    assert report.verified
    assert report.overwritten
    assert (report.subjects, sum(report.templates.values())) == (20, 20)
    assert sum(report.searchable.values()) == 20
    assert await gallery.tenants() == ["other"]
    assert (await gallery.search(ACME, OLD, face(1)[None], 1)) == [[]]
    assert (await gallery.search("other", OLD, face(1)[None], 1))[0][0].subject_id == "person-1"
    await gallery.enrol("third", [enrolment(5)])  # which may get the number of the one that went
    assert (await gallery.search(ACME, OLD, face(5)[None], 1)) == [[]]
    await gallery.close()
    assert destroyed not in (tmp_path / "gallery.sqlite3").read_bytes()


KMS = """#!{python}
import base64, os, sys
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
cipher = AESGCM(bytes(32))
given = base64.b64decode(sys.stdin.read())
about = os.environ["MIEN_KEY_CONTEXT"].encode()
if sys.argv[1] == "wrap":
    nonce = os.urandom(12)
    told = nonce + cipher.encrypt(nonce, given, about)
else:
    told = cipher.decrypt(given[:12], given[12:], about)
print(base64.b64encode(told).decode())
"""


def key_command(folder: Path) -> str:
    """A command that keeps a master key, as that of a key management system does."""
    file = folder / "kms"
    file.write_text(KMS.format(python=sys.executable))
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


async def test_the_master_key_may_be_kept_by_a_command(tmp_path: Path) -> None:
    settings = GallerySettings(key_command=key_command(tmp_path))
    gallery = await opened(tmp_path, settings)
    await gallery.create_collection(OLD)
    await gallery.enrol(ACME, [enrolment(1)])
    await gallery.close()
    assert not (tmp_path / "gallery.sqlite3.key").exists(), "no master key lies here"
    again = await opened(tmp_path, settings)
    assert await all_found(again, range(1, 2))
    await again.close()
    with pytest.raises(MienError) as refused:
        await opened(tmp_path, GallerySettings(key_command="false"))
    assert "KEY_COMMAND" in refused.value.detail


async def test_a_gallery_moves_from_a_key_file_to_a_command(tmp_path: Path) -> None:
    gallery = await filled(tmp_path, 5)
    command = key_command(tmp_path)
    await gallery.rewrap(KeyCommand(command))
    assert await all_found(gallery, range(5))
    await gallery.close()
    (tmp_path / "gallery.sqlite3.key").unlink()
    again = await opened(tmp_path, GallerySettings(key_command=command))
    assert await all_found(again, range(5))
    await again.close()


async def test_a_new_master_key_is_taken_from_a_file_that_is_there(tmp_path: Path) -> None:
    gallery = await filled(tmp_path, 5)
    key = new_key()
    write_key(tmp_path / "theirs", key)
    assert await gallery.rotate_master_key(tmp_path / "theirs") == tmp_path / "theirs"
    await gallery.close()
    text = base64.b64encode(key).decode()
    again = await opened(tmp_path, GallerySettings(master_key=text))
    assert await all_found(again, range(5))
    await again.close()


async def test_a_gallery_of_an_older_mien_opens_and_its_key_can_be_renewed(tmp_path: Path) -> None:
    master, key = new_key(), new_key()
    write_key(tmp_path / "gallery.sqlite3.key", master)
    with sqlite3.connect(tmp_path / "gallery.sqlite3") as old:
        old.executescript(f"{_STEPS[0]}; PRAGMA user_version = 1;")
        wrapper, cipher = Cipher(master), Cipher(key)
        old.execute(
            "INSERT INTO facts VALUES ('master key', ?)", (wrapper.seal(b"", "master key"),)
        )
        old.execute(
            "INSERT INTO tenants VALUES (1, ?, ?)", (ACME, wrapper.seal(key, "tenant", ACME))
        )
        told = cipher.seal(b'{"name": "Ada", "metadata": {}}', "subject", ACME, "ada")
        old.execute("INSERT INTO subjects VALUES (1, 1, 'ada', 1, ?, 1.0, 1.0)", (told,))
    gallery = await opened(tmp_path)
    await gallery.create_collection(OLD)
    for _ in range(2):
        found = await gallery.subject(ACME, "ada")
        assert found is not None
        assert found.name == "Ada"
        await gallery.enrol(ACME, [Enrolment("ada", [NewTemplate(OLD, face(1))])])
        await gallery.keys.rotate()
        await gallery.keys.finished()
    await gallery.close()
