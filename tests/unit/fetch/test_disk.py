"""Downloads to a disk that is full or closed."""

import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.zoo import Zoo
from tests.unit.fetch.origin import CONTENT, FILE, SDIST, Index, Origin, card, refusal, sdist


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with 2 MB: less than the file."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip("a small disk can be mounted by root alone")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may be larger than 1 MB: the disk says that it has room, and then has none."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("source", ["address", "distribution"])
def test_a_full_disk_is_told_with_the_room_that_is_needed_and_is_left_clean(
    index: Index, origin: Origin, small_disk: Path, source: str
) -> None:
    if source == "address":
        origin.files[f"/{FILE}"] = CONTENT
        far = card(origin.source(), index.source("never-1.0.tar.gz", b""))
    else:
        name = "my_pack-1.0.tar.gz"
        index.hold(name, SDIST)
        far = card(index.source(name, SDIST))
    message = refusal(lambda: Zoo(small_disk).pull(far))
    assert "no room" in message
    assert str(small_disk) in message
    assert "3.0 MB are needed" in message
    assert "2.1 MB are free" in message
    assert files_in(small_disk) == []
    assert "never" not in message, "another source would not help"


def test_a_file_that_does_not_fit_unpacked_leaves_no_distribution(
    index: Index, small_disk: Path
) -> None:
    name, content = "my_pack-1.0.tar.gz", bytes(3_000_000)
    packed = sdist(content)
    assert len(packed) < 100_000, "it fits itself"
    index.hold(name, packed)
    far = card(index.source(name, packed), content=content)
    message = refusal(lambda: Zoo(small_disk).pull(far))
    assert "3.0 MB are needed" in message
    assert files_in(small_disk) == []


def test_a_disk_that_fills_up_meanwhile_is_left_clean(
    origin: Origin, tmp_path: Path, small_files: None
) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    message = refusal(lambda: Zoo(tmp_path / "home").pull(card(origin.source())))
    assert "no room" in message
    assert str(tmp_path / "home") in message
    assert files_in(tmp_path) == []


def test_a_home_that_is_a_file_is_told_as_such(origin: Origin, tmp_path: Path) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    home = tmp_path / "home"
    home.write_text("a file")
    message = refusal(lambda: Zoo(home).pull(card(origin.source())))
    assert f"{home}" in message
    assert "cannot be written" in message
    assert home.read_text() == "a file"
