"""The demo's photographs: pulled at set-up, never kept in the repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.zoo import FetchError
from models.zoo.card_base import PackageSource
from models.zoo.fetch import Progress, fetch_member, file_sha256

# Official portraits of two public figures: works of the United States government, so in the public
# domain. They come with the source package of `face_recognition`, as its test pictures.
_FOLDER = "face_recognition-1.3.0/tests/test_images"
_PICTURES = {
    "obama.jpg": "0930e3aa8cae5920329c0c8cbc6a2ab70f47b0e67b432875beaa95cbf7e741f6",
    "obama2.jpg": "a7efcc907375274796f39646510704aa86672d59f6d5469d69af3c85590976a6",
    "biden.jpg": "3c17508bb91554c637a2eabddfae790e5bb1caba93130814fc2ac50be9760c4c",
}


@dataclass(frozen=True)
class DemoPair:
    """Two of the pictures, and whether they show one person."""

    probe: str
    reference: str
    same: bool


PAIRS = (
    DemoPair("obama.jpg", "obama2.jpg", same=True),
    DemoPair("obama.jpg", "biden.jpg", same=False),
    DemoPair("obama2.jpg", "biden.jpg", same=False),
)


def pull_pictures(home: Path, progress: Progress | None = None) -> Path:
    """Downloads the photographs if they are not here yet, and returns their folder.

    Raises:
        FetchError: offline, or not the expected files.
    """
    folder = home / "demo"
    for name, sha256 in _PICTURES.items():
        target = folder / name
        if target.exists() and file_sha256(target) == sha256:
            continue
        source = PackageSource(
            package="face-recognition",
            version="1.3.0",
            filename="face_recognition-1.3.0.tar.gz",
            sha256="5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec",
            member=f"{_FOLDER}/{name}",
        )
        fetch_member(source, home / "archives", target, progress)
        if file_sha256(target) != sha256:
            raise FetchError(f"{name} is not the expected picture (SHA-256 differs)")
    return folder
