"""What tests share: the weights, the photographs, the research data, and a running Mien."""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.zoo import FetchError, Zoo
from services.demo_pictures import pull_pictures
from services.settings import Settings
from tests.integration.harness import (
    Mien,
    mien_in_thread,
    settings_on_free_ports,
    weightless_loader,
)

_REPO = Path(__file__).parents[1]
_KEPT = ("MIEN_HOME", "MIEN_TEST_")


@pytest.fixture(scope="session", autouse=True)
def _plain_environment() -> Iterator[None]:
    """Settings of whoever runs the tests must not change what they see."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("MIEN_") and not name.startswith(_KEPT):
                patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def _commands_leave_logging_alone() -> Iterator[None]:
    """A command run in this process would set the log level of every test after it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.cli.context.configure_logging", lambda *_: None)
        yield


@pytest.fixture(scope="session")
def mien_home(_plain_environment: None) -> Path:
    """The folder of the weights and photographs, pulled if they are missing."""
    home = Settings().home
    zoo = Zoo(home)
    try:
        for name in ("yunet", "sface"):
            zoo.pull(zoo.card(name))
        pull_pictures(home)
    except FetchError as error:
        reason = f"weights and photographs are not here and cannot be downloaded: {error}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return home


@pytest.fixture(scope="session")
def portraits(mien_home: Path) -> Path:
    """The folder of the demo's photographs."""
    return mien_home / "demo"


@pytest.fixture(scope="session")
def mien(mien_home: Path) -> Iterator[Mien]:
    """Mien with all its services and the real models, on free ports."""
    with mien_in_thread(settings_on_free_ports(mien_home)) as running:
        yield running


@pytest.fixture(scope="session")
def weightless_mien(mien_home: Path) -> Iterator[Mien]:
    """Mien with an embedder that needs no weights, and at most two references in one request."""
    settings = settings_on_free_ports(mien_home)
    image = settings.image.model_copy(update={"max_bytes": 200_000, "max_references": 2})
    limited = settings.model_copy(update={"image": image})
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:  # only at the start: others load real weights
            patch.setattr("services.serve.load_configured", weightless_loader())
            running = stack.enter_context(mien_in_thread(limited))
        yield running


@pytest.fixture(scope="session")
def research_data() -> Path:
    """The folder of the research pictures, which are not part of the project."""
    folder = Path(os.environ.get("MIEN_TEST_DATA") or _REPO.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"the research pictures are not at {folder} (MIEN_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def lfw_images(research_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The development pictures of LFW, unpacked."""
    return _unpack(research_data / "lfw" / "images.tar", tmp_path_factory.mktemp("lfw"))


@pytest.fixture(scope="session")
def cfp_images(research_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The development pictures of CFP, unpacked."""
    return _unpack(research_data / "cfp" / "images.tar", tmp_path_factory.mktemp("cfp"))


def _unpack(archive: Path, folder: Path) -> Path:
    if not archive.is_file():
        pytest.skip(f"there is no {archive}")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / "images"
