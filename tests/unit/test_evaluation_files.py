"""The files of an evaluation: lists of pairs, folders of pictures, kept embeddings."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.evaluation import Pair, PairsError, read_pairs
from services.evaluation.cache import EmbeddingCache, picture_key, pipeline_sha256
from services.evaluation.calibration import picture_set
from services.evaluation.pairs import person_of
from services.picture_files import pictures_below

HEADER = "fold\tpath1\tpath2\tsame\n"
GOOD = "1\tann/1.jpg\tann/2.jpg\t1\n"


# --- lists of pairs --------------------------------------------------------------------------


def pairs_file(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "pairs.tsv"
    path.write_text(text, encoding=encoding)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(PairsError) as caught:
        read_pairs(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_pairs_are_read_in_order(tmp_path: Path) -> None:
    path = pairs_file(tmp_path, HEADER + GOOD + "2\tann/1.jpg\tbob/1.jpg\t0\n")
    assert read_pairs(path) == [
        Pair("1", "ann/1.jpg", "ann/2.jpg", True),
        Pair("2", "ann/1.jpg", "bob/1.jpg", False),
    ]


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    path = pairs_file(tmp_path, "same\tnote\tpath2\tpath1\tfold\n0\tx\tb/1.jpg\ta/1.jpg\t7\n")
    assert read_pairs(path) == [Pair("7", "a/1.jpg", "b/1.jpg", False)]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (HEADER + GOOD.rstrip("\n"), "utf-8"),
        ((HEADER + GOOD).replace("\n", "\r\n"), "utf-8"),
        (HEADER + GOOD, "utf-8-sig"),
    ],
    ids=["no newline at the end", "line ends of Windows", "byte order mark"],
)
def test_what_editors_do_to_a_file_does_not_matter(
    tmp_path: Path, text: str, encoding: str
) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_bytes(text.encode(encoding))
    assert read_pairs(path) == [Pair("1", "ann/1.jpg", "ann/2.jpg", True)]


def test_quotes_and_spaces_belong_to_the_path(tmp_path: Path) -> None:
    path = pairs_file(tmp_path, HEADER + '1\t"Al" Bo/1 1.jpg\tZoë/1.jpg\t0\n' + GOOD)
    assert [pair.path1 for pair in read_pairs(path)] == ['"Al" Bo/1 1.jpg', "ann/1.jpg"]


@pytest.mark.parametrize(
    "line",
    [
        "1\tann/1.jpg\tann/2.jpg\tyes\n",
        "1\tann/1.jpg\tann/2.jpg\t2\n",
        "1\tann/1.jpg\tann/2.jpg\n",
        "1\tann/1.jpg\t\t1\n",
        "\tann/1.jpg\tann/2.jpg\t1\n",
        "1 ann/1.jpg ann/2.jpg 1\n",
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    assert "line 4:" in refusal(pairs_file(tmp_path, HEADER + GOOD + GOOD + line + GOOD))


@pytest.mark.parametrize("text", ["", "fold\tpath1\tpath2\n", "fold,path1,path2,same\n", GOOD])
def test_a_bad_header_is_told(tmp_path: Path, text: str) -> None:
    assert "fold, path1, path2, same" in refusal(pairs_file(tmp_path, text))


def test_a_list_without_pairs(tmp_path: Path) -> None:
    assert "no pairs" in refusal(pairs_file(tmp_path, HEADER))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "absent.tsv")
    (tmp_path / "picture.tsv").write_bytes(b"\xff\xd8\xff\xe0")
    assert "cannot be read" in refusal(tmp_path / "picture.tsv")


@pytest.mark.parametrize("path", ["ann/1.jpg", "./ann/1.jpg", "ann/2001/1.jpg"])
def test_the_person_is_the_first_folder(path: str) -> None:
    assert person_of(path) == "ann"


# --- folders of pictures ---------------------------------------------------------------------


def folder_of(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"picture")
    return root


def test_pictures_below_a_folder_for_each_person(tmp_path: Path) -> None:
    root = folder_of(
        tmp_path,
        "bob/b.PNG",
        "ann/2.jpg",
        "ann/1.jpeg",
        "ann/notes.txt",
        "cover.jpg",
        "eve/x/1.heic",
    )
    found = picture_set(root)
    assert found.root == root
    assert found.paths == ["ann/1.jpeg", "ann/2.jpg", "bob/b.PNG", "eve/x/1.heic"]


@pytest.mark.parametrize(
    "files",
    [(), ("1.jpg", "2.jpg"), ("ann/1.jpg", "ann/2.jpg"), ("ann/1.txt", "bob/1.txt")],
    ids=["empty", "no folders", "one person", "no pictures"],
)
def test_a_folder_that_does_not_show_several_people(tmp_path: Path, files: tuple[str, ...]) -> None:
    with pytest.raises(PairsError, match="several people") as caught:
        picture_set(folder_of(tmp_path, *files))
    assert str(tmp_path) in str(caught.value)


def test_folders_that_are_links_are_looked_through_once(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "root", "ann/1.jpg")
    elsewhere = folder_of(tmp_path / "elsewhere", "bob/2.jpg", "bob/3.jpg")
    (root / "more").symlink_to(elsewhere, target_is_directory=True)
    (root / "more-again").symlink_to(elsewhere, target_is_directory=True)
    (elsewhere / "bob" / "around").symlink_to(root, target_is_directory=True)
    found = [str(path.relative_to(root)) for path in pictures_below(root)]
    assert found == ["ann/1.jpg", "more/bob/2.jpg", "more/bob/3.jpg"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PairsError):
        picture_set(tmp_path / "absent")


# --- kept embeddings -------------------------------------------------------------------------

RECIPE: dict[str, object] = {"identity": "a1", "engine": "openvino", "choice": ["largest", 0]}


def vector(seed: int, dimension: int = 4) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(dimension, np.float32)


def opened(folder: Path | None, recipe: dict[str, object] = RECIPE) -> EmbeddingCache:
    return EmbeddingCache(folder, recipe, 4)


def filled(folder: Path) -> Path:
    """A folder with a saved cache, and the path of its only file."""
    cache = opened(folder)
    cache.put(picture_key(b"one"), vector(1))
    cache.put(picture_key(b"none"), None)
    cache.put(picture_key(b"two"), vector(2))
    cache.save()
    (file,) = folder.iterdir()
    return file


def test_vectors_are_kept_between_runs(tmp_path: Path) -> None:
    filled(tmp_path / "new" / "folder")
    again = opened(tmp_path / "new" / "folder")
    one, two = again[picture_key(b"one")], again[picture_key(b"two")]
    assert one is not None
    assert two is not None
    assert np.array_equal(one, vector(1))
    assert np.array_equal(two, vector(2))
    assert one.dtype == np.float32
    assert picture_key(b"three") not in again


def test_a_picture_without_a_face_is_remembered_as_such(tmp_path: Path) -> None:
    filled(tmp_path)
    again = opened(tmp_path)
    assert picture_key(b"none") in again
    assert again[picture_key(b"none")] is None


def test_what_is_added_later_joins_what_was_there(tmp_path: Path) -> None:
    filled(tmp_path)
    second = opened(tmp_path)
    second.put(picture_key(b"three"), vector(3))
    second.save()
    third = opened(tmp_path)
    assert all(picture_key(name) in third for name in (b"one", b"none", b"two", b"three"))
    assert len(list(tmp_path.iterdir())) == 1


def test_an_unchanged_cache_is_not_written_again(tmp_path: Path) -> None:
    file = filled(tmp_path)
    before = file.stat().st_mtime_ns
    opened(tmp_path).save()
    assert file.stat().st_mtime_ns == before


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    cache = opened(None)
    cache.put("a", vector(1))
    cache.save()
    assert "a" in cache
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changed",
    [{"identity": "b2"}, {"engine": "onnxruntime"}, {"choice": ["central", 0]}, {"more": 1}],
)
def test_another_recipe_has_vectors_of_its_own(tmp_path: Path, changed: dict[str, object]) -> None:
    filled(tmp_path)
    other = opened(tmp_path, RECIPE | changed)
    assert picture_key(b"one") not in other
    other.put(picture_key(b"one"), vector(9))
    other.save()
    first = opened(tmp_path)[picture_key(b"one")]
    assert first is not None
    assert np.array_equal(first, vector(1))


def test_the_order_of_a_recipe_does_not_matter(tmp_path: Path) -> None:
    filled(tmp_path)
    assert picture_key(b"one") in opened(tmp_path, dict(reversed(RECIPE.items())))


def stored(file: Path, **arrays: NDArray[np.generic]) -> None:
    with file.open("wb") as target:
        np.savez(target, **arrays)  # type: ignore[arg-type]  # its stub takes no mapping


DAMAGE = {
    "empty": b"",
    "junk": b"not an archive",
    "archive without arrays": b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("damage", [*DAMAGE, "cut", "flipped"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    file = filled(tmp_path)
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        with zipfile.ZipFile(file) as archive:
            start = archive.getinfo("vectors.npy").header_offset + 200
        file.write_bytes(content[:start] + bytes(8) + content[start + 8 :])
    else:
        file.write_bytes(DAMAGE[damage])
    cache = opened(tmp_path)
    assert picture_key(b"one") not in cache
    cache.put(picture_key(b"one"), vector(5))
    cache.save()
    again = opened(tmp_path)[picture_key(b"one")]
    assert again is not None
    assert np.array_equal(again, vector(5))


@pytest.mark.parametrize("wrong", ["dimension", "count of marks", "count of vectors"])
def test_arrays_that_do_not_fit_each_other_are_ignored(tmp_path: Path, wrong: str) -> None:
    file = filled(tmp_path)
    stored(
        file,
        keys=np.array([picture_key(b"one")] * 2, "U64"),
        found=np.ones(1 if wrong == "count of marks" else 2, bool),
        vectors=np.zeros(
            (3 if wrong == "count of vectors" else 2, 5 if wrong == "dimension" else 4)
        ),
    )
    assert picture_key(b"one") not in opened(tmp_path)


def test_pictures_are_told_apart_by_their_bytes() -> None:
    assert picture_key(b"one") == picture_key(b"one")
    assert picture_key(b"one") != picture_key(b"One")
    assert len(picture_key(b"")) == 64


def test_the_hash_of_the_pipeline_changes_with_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pipeline_sha256()
    assert pipeline_sha256() == real
    (tmp_path / "imaging").mkdir()
    module = tmp_path / "imaging" / "decode.py"
    monkeypatch.setattr("services.gateway.__file__", str(tmp_path / "__init__.py"))
    module.write_text("one = 1\n")
    first = pipeline_sha256()
    module.write_text("one = 2\n")
    assert len({real, first, pipeline_sha256()}) == 3
