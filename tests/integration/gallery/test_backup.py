"""A gallery that is copied while it serves, lost, and brought back."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.gallery import app
from services.errors import MienError
from services.gallery import Gallery
from services.gallery.embedded.backup import back_up, restore
from services.gallery.open import open_gallery
from services.settings import Settings, SettingsError
from tests.integration.gallery.made import OLD, enrolment, face

ACME = "acme"


def _settings(home: Path) -> Settings:
    return Settings(home=home)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def _found(gallery: Gallery, number: int) -> str:
    (candidates,) = await gallery.search(ACME, OLD, face(number, OLD, 7)[None], 1)
    return candidates[0].subject_id


async def test_a_copy_made_while_people_are_enrolled_opens_elsewhere_with_the_key(
    tmp_path: Path,
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    gallery = await open_gallery(_settings(here))
    await gallery.create_collection(OLD)
    await gallery.enrol(ACME, [enrolment(number) for number in range(20)])

    async def enrol_on() -> None:
        for number in range(20, 60):
            await gallery.enrol(ACME, [enrolment(number)])

    working = asyncio.create_task(enrol_on())
    await asyncio.sleep(0)
    copy = tmp_path / "copy.sqlite3"
    await asyncio.to_thread(back_up, here / "gallery.sqlite3", copy)
    await working
    assert await _found(gallery, 59) == "person-59", "it goes on as if nothing had been"
    await gallery.close()

    assert copy.stat().st_mode & 0o077 == 0
    assert _names(tmp_path) == ["copy.sqlite3", "here"]
    there.mkdir()
    restore(copy, there / "gallery.sqlite3")
    with pytest.raises(MienError, match="master key"):
        await open_gallery(_settings(there))
    shutil.copy(here / "gallery.sqlite3.key", there / "gallery.sqlite3.key")
    restored = await open_gallery(_settings(there))
    (collection,) = await restored.collections()
    assert 20 <= collection.templates <= 60
    assert await _found(restored, 3) == "person-3"
    await restored.enrol(ACME, [enrolment(99)])
    assert await _found(restored, 99) == "person-99"
    await restored.close()


async def test_nothing_is_overwritten_and_a_running_gallery_is_not_replaced(
    tmp_path: Path,
) -> None:
    database, copy = tmp_path / "gallery.sqlite3", tmp_path / "copy.sqlite3"
    gallery = await open_gallery(_settings(tmp_path))
    back_up(database, copy)
    with pytest.raises(FileExistsError):
        back_up(database, copy)
    with pytest.raises(MienError, match="holds this gallery"):
        restore(copy, database)
    await gallery.close()
    with pytest.raises(FileExistsError):
        restore(copy, database)


def test_damaged_copies_and_other_files_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    target = tmp_path / "new" / "gallery.sqlite3"
    other = tmp_path / "other.sqlite3"
    with closing(sqlite3.connect(other)) as made:
        made.execute("CREATE TABLE people (name TEXT)")
    noise = tmp_path / "noise"
    noise.write_bytes(b"no database" * 1000)
    for file in (other, noise, tmp_path / "nowhere"):
        with pytest.raises(MienError):
            restore(file, target)
    assert not target.exists()
    with pytest.raises(MienError, match="no gallery at"):
        back_up(tmp_path / "nowhere", tmp_path / "copy")
    assert not (tmp_path / "nowhere").exists()


async def test_a_copy_that_lost_pages_is_refused(tmp_path: Path) -> None:
    gallery = await open_gallery(_settings(tmp_path))
    await gallery.create_collection(OLD)
    await gallery.enrol(ACME, [enrolment(number) for number in range(200)])
    copy = tmp_path / "copy.sqlite3"
    back_up(tmp_path / "gallery.sqlite3", copy)
    await gallery.close()
    whole = copy.read_bytes()
    copy.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MienError):
        restore(copy, tmp_path / "new.sqlite3")


def test_an_operator_saves_and_restores_by_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    database, key = tmp_path / "gallery.sqlite3", tmp_path / "gallery.sqlite3.key"

    async def made() -> None:
        gallery = await open_gallery(_settings(tmp_path))
        await gallery.create_collection(OLD)
        await gallery.enrol(ACME, [enrolment(number) for number in range(5)])
        await gallery.close()

    asyncio.run(made())
    copy = str(tmp_path / "copy.sqlite3")
    saved = CliRunner().invoke(app, ["backup", copy], standalone_mode=False)
    assert saved.exception is None, saved.exception
    assert "without the master key" in " ".join(saved.stdout.split())
    database.unlink()
    assert key.exists()
    back = CliRunner().invoke(app, ["restore", copy], standalone_mode=False)
    assert back.exception is None, back.exception
    assert "5 templates of 1 model versions are back" in back.stdout
    milvus = CliRunner().invoke(
        app, ["backup", copy, "--uri", "http://milvus:19530"], standalone_mode=False
    )
    assert isinstance(milvus.exception, SettingsError)
