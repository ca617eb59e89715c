"""`mien gallery`, as an operator types it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from models.zoo import Zoo
from services.cli.gallery import app
from services.errors import MienError
from services.gallery.embedded import EmbeddedGallery
from services.gallery.spaces import space_of_card
from services.gallery.vector_files import VectorFileError
from services.settings import GallerySettings, SettingsError

DIMENSION = 128
FAILED = 3


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))


def mien(*arguments: str | Path, code: int = 0) -> str:
    """What a command printed, or the sentence that it failed with."""
    done = CliRunner().invoke(app, [str(one) for one in arguments], standalone_mode=False)
    if code == FAILED:
        assert isinstance(done.exception, SettingsError | VectorFileError | MienError)
        return str(done.exception)
    assert done.exception is None, done.exception
    assert (done.return_value or 0) == code
    return done.stdout


def told(*arguments: str | Path, code: int = 0) -> dict[str, Any]:
    said = mien(*arguments, "--json", code=code)
    # Logging is not set up here, so that warnings come before the answer.
    answer: dict[str, Any] = json.loads(said[said.index("{\n") :])
    return answer


@pytest.fixture
def vectors() -> np.ndarray[Any, np.dtype[np.float32]]:
    made = np.random.default_rng(0).standard_normal((6, DIMENSION))
    unit = made / np.linalg.norm(made, axis=1, keepdims=True)
    return np.asarray(unit, np.float32)


def write(folder: Path, kind: str, vectors: np.ndarray[Any, Any], names: list[str]) -> list[Path]:
    """A file of vectors, and what follows it on the command line."""
    file = folder / f"vectors.{kind}"
    if kind == "npy":
        np.save(file, vectors)
        ids = folder / "ids.csv"
        ids.write_text("subject_id\n" + "\n".join(names) + "\n")
        return [file, Path("--ids"), ids]
    if kind == "csv":
        rows = [
            f"{name},{' '.join(map(repr, row.tolist()))}"
            for name, row in zip(names, vectors, strict=True)
        ]
        file.write_text("subject_id,vector\n" + "\n".join(rows) + "\n")
    else:
        table = pa.table({"subject_id": names, "vector": [row.tolist() for row in vectors]})
        parquet.write_table(table, file)
    return [file]


@pytest.mark.parametrize("kind", ["npy", "csv", "parquet"])
def test_a_file_of_vectors_is_imported_once_however_often(
    tmp_path: Path, vectors: np.ndarray[Any, Any], kind: str
) -> None:
    names = ["ann", "bob", "ann", "cid", "not valid", "dan"]
    spoilt = vectors.copy()
    spoilt[5, 7] = np.nan
    given = write(tmp_path, kind, spoilt, names)
    for new in (3, 0):
        facts = told("import", *given, "--model", "sface", code=1)
        assert (facts["model"], facts["templates"], facts["subjects"]) == ("sface@1", 4, new)
        assert [fault["row"] for fault in facts["faults"]] == [5, 6]
        assert "finite" in facts["faults"][1]["why"]
        facts = told("info")
        (collection,) = facts["collections"]
        assert (collection["model"], collection["templates"]) == ("sface@1", 4)
        assert collection["live"]


def test_imported_people_are_found(tmp_path: Path, vectors: np.ndarray[Any, Any]) -> None:
    given = write(tmp_path, "npy", vectors, [f"p{number}" for number in range(6)])
    mien("import", *given, "--model", "sface", "--tenant", "acme")
    mien("rotate-key")

    async def work() -> list[str]:
        gallery = await EmbeddedGallery.open(tmp_path / "gallery.sqlite3", GallerySettings())
        space = space_of_card(Zoo(tmp_path).embedder("sface"))
        answers = await gallery.search("acme", space, vectors, 1)
        await gallery.close()
        return [row[0].subject_id for row in answers]

    assert asyncio.run(work()) == [f"p{number}" for number in range(6)]


def test_a_gallery_is_copied_and_a_held_one_is_not(
    tmp_path: Path, vectors: np.ndarray[Any, Any]
) -> None:
    given = write(tmp_path, "npy", vectors, [f"p{number}" for number in range(6)])
    mien("import", *given, "--model", "sface")
    here, there = f"sqlite:{tmp_path / 'gallery.sqlite3'}", f"sqlite:{tmp_path / 'other.db'}"
    facts = told("copy", "--from", here, "--to", there)
    assert (facts["templates"], facts["subjects"]) == (6, 6)
    assert told("info", "--uri", there)["collections"][0]["templates"] == 6
    assert "itself" in mien("copy", "--from", here, "--to", here, code=FAILED)
    assert "MIEN_GALLERY__URI" in mien("info", "--uri", "ftp://x", code=FAILED)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("v.npy", b"\x93NUMPY nonsense", "npy"),
        ("v.parquet", b"PAR1 nonsense", "Parquet"),
        ("v.csv", b"name,vector\nann,1 2\n", "subject_id"),
        ("v.csv", b"subject_id,vector\n\xff\xfe,1\n", "UTF-8"),
        ("v.pkl", b"\x80\x04.", "neither"),
    ],
)
def test_a_file_that_is_no_file_of_vectors_is_named(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    ids = tmp_path / "ids.csv"
    ids.write_text("subject_id\nann\n")
    more = ["--ids", str(ids)] if name.endswith("npy") else []
    said = mien("import", tmp_path / name, "--model", "sface", *more, code=FAILED)
    assert says in said


def test_pickles_inside_npy_files_are_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.array([[{"a": 1}]], dtype=object), allow_pickle=True)
    (tmp_path / "ids.csv").write_text("subject_id\nann\n")
    given = (tmp_path / "v.npy", "--ids", tmp_path / "ids.csv")
    assert "npy" in mien("import", *given, "--model", "sface", code=FAILED)


def test_vectors_of_another_length_are_refused_row_by_row(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("subject_id,a,b\nann,1,2\nbob,1\ncid,1,2,3\n")
    facts = told("import", tmp_path / "v.csv", "--model", "sface", code=1)
    assert (facts["templates"], facts["refused"]) == (0, 3)
    assert [fault["row"] for fault in facts["faults"]] == [1, 2, 3]


def test_an_id_of_somebody_else_is_refused_and_the_others_are_stored(
    tmp_path: Path, vectors: np.ndarray[Any, Any]
) -> None:
    numbers = [" ".join(map(repr, row.tolist())) for row in vectors]
    rows = [f"ann,t1,{numbers[0]}", f"bob,t1,{numbers[1]}", f"bob,t2,{numbers[2]}"]
    (tmp_path / "v.csv").write_text("subject_id,template_id,vector\n" + "\n".join(rows) + "\n")
    facts = told("import", tmp_path / "v.csv", "--model", "sface", code=1)
    assert facts["templates"] == 2
    assert [fault["row"] for fault in facts["faults"]] == [2]
    assert "another subject" in facts["faults"][0]["why"]
