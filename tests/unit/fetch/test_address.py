"""One file at an address, from a server that misbehaves as real ones do."""

from pathlib import Path

import httpx
import pytest
import stamina

from models.zoo.card_base import UrlSource
from models.zoo.fetch import fetch_url
from tests.unit.fetch.origin import CONTENT, FILE, KEPT, Origin, free_port, refusal, sha256


def test_a_file_arrives_whole_and_alone(origin: Origin, tmp_path: Path) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    told: list[tuple[int, int | None]] = []
    target = tmp_path / "new" / FILE
    fetch_url(
        origin.source(), target, sha256(CONTENT), lambda have, total: told.append((have, total))
    )
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == [FILE]
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(told)


def test_a_redirect_is_followed(origin: Origin, tmp_path: Path) -> None:
    origin.redirects["/moved"] = f"/{FILE}"
    origin.files[f"/{FILE}"] = CONTENT
    fetch_url(origin.source("/moved"), tmp_path / FILE, sha256(CONTENT))
    assert (tmp_path / FILE).read_bytes() == CONTENT


def test_a_broken_transfer_goes_on_where_it_stopped(origin: Origin, tmp_path: Path) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    origin.breaks = 1
    told: list[tuple[int, int | None]] = []
    fetch_url(
        origin.source(),
        tmp_path / FILE,
        sha256(CONTENT),
        lambda have, total: told.append((have, total)),
    )
    assert (tmp_path / FILE).read_bytes() == CONTENT
    assert [asked for _, asked in origin.requests] == [None, f"bytes={KEPT}-"]
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_the_next_run_goes_on_where_the_last_one_stopped(origin: Origin, tmp_path: Path) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    origin.breaks = 1
    with stamina.set_testing(True, attempts=1):
        message = refusal(lambda: fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT)))
    assert "run the command again" in message
    assert not (tmp_path / FILE).exists()
    fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT))
    assert (tmp_path / FILE).read_bytes() == CONTENT
    assert [asked for _, asked in origin.requests] == [None, f"bytes={KEPT}-"]


def test_a_server_without_ranges_starts_over(origin: Origin, tmp_path: Path) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    origin.ranges = False
    origin.breaks = 1
    fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT))
    assert (tmp_path / FILE).read_bytes() == CONTENT


def test_a_file_that_is_here_already_needs_no_second_transfer(
    origin: Origin, tmp_path: Path
) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    (tmp_path / f"{FILE}.part").write_bytes(CONTENT)
    fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT))
    assert (tmp_path / FILE).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [503, 500, 429, 408])
def test_a_busy_server_is_asked_again(origin: Origin, tmp_path: Path, status: int) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    origin.refusals = [status, status]
    fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT))
    assert (tmp_path / FILE).read_bytes() == CONTENT
    assert len(origin.requests) == 3


def test_a_server_that_stays_busy_is_given_up(origin: Origin, tmp_path: Path) -> None:
    origin.refusals = [503] * 50
    message = refusal(lambda: fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT)))
    assert FILE in message
    assert "127.0.0.1" in message
    assert len(origin.requests) == 4


def test_other_bytes_are_discarded(origin: Origin, tmp_path: Path) -> None:
    origin.files[f"/{FILE}"] = b"something else"
    message = refusal(lambda: fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT)))
    assert "SHA-256" in message
    assert "127.0.0.1" in message
    assert list(tmp_path.iterdir()) == [], "neither the file nor a part of it may stay"


def test_a_part_of_another_file_spoils_one_run_only(origin: Origin, tmp_path: Path) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    (tmp_path / f"{FILE}.part").write_bytes(b"left from another file")
    refusal(lambda: fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT)))
    fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT))
    assert (tmp_path / FILE).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 403])
def test_a_file_that_is_not_there_is_not_asked_for_again(
    origin: Origin, tmp_path: Path, status: int
) -> None:
    origin.refusals = [status] * 9
    message = refusal(lambda: fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT)))
    assert str(status) in message
    assert "127.0.0.1" in message
    assert "online" not in message, "the server answered, so the machine is online"
    assert len(origin.requests) == 1


def test_offline_is_told_as_such(tmp_path: Path) -> None:
    source = UrlSource.model_construct(kind="url", url=f"http://127.0.0.1:{free_port()}/{FILE}")
    message = refusal(lambda: fetch_url(source, tmp_path / FILE, sha256(CONTENT)))
    assert FILE in message
    assert "127.0.0.1" in message
    assert "Is this machine online?" in message


def test_a_server_that_never_answers_is_given_up(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.zoo.fetch._TIMEOUT", httpx.Timeout(0.2))
    origin.hangs = True
    with stamina.set_testing(True, attempts=2):
        message = refusal(lambda: fetch_url(origin.source(), tmp_path / FILE, sha256(CONTENT)))
    assert "127.0.0.1" in message


def test_cards_take_no_address_without_encryption() -> None:
    with pytest.raises(ValueError, match="url"):
        UrlSource(url="http://example.org/model.onnx")
