"""The cache of plans: what is kept comes back whole or not at all."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.runtime.plan_cache import PlanCache, PlanKey

_KEY = PlanKey(
    model_sha256="ab" * 32,
    engine="tensorrt_rtx 1.7",
    device="any",
    compute_capability="8.0",
    precision="fp16",
    shapes="x:1x3/64x3",
)
_PLAN = bytes(range(256)) * 8


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "engines")


def test_what_was_kept_comes_back(cache: PlanCache) -> None:
    assert cache.get(_KEY) is None

    path = cache.put(_KEY, _PLAN)

    assert path == cache.path(_KEY)
    assert cache.get(_KEY) == _PLAN
    assert PlanCache(cache.folder).get(_KEY) == _PLAN


@pytest.mark.parametrize("part", [field.name for field in fields(PlanKey) if field.name != "kind"])
def test_another_value_of_any_part_is_another_plan(cache: PlanCache, part: str) -> None:
    cache.put(_KEY, _PLAN)
    other = PlanKey(**(asdict(_KEY) | {part: "something else"}))

    assert cache.get(other) is None
    assert cache.path(other) != cache.path(_KEY)
    assert cache.get(_KEY) == _PLAN


def _cut(content: bytes) -> bytes:
    return content[:-100]


def _cut_in_header(content: bytes) -> bytes:
    return content[:60]


def _empty(_: bytes) -> bytes:
    return b""


def _flip(content: bytes) -> bytes:
    return content[:-50] + bytes([content[-50] ^ 1]) + content[-49:]


def _longer(content: bytes) -> bytes:
    return content + b"x"


def _older_layout(content: bytes) -> bytes:
    return content.replace(b"SEALED 1", b"SEALED 0", 1)


def _broken_header(content: bytes) -> bytes:
    return content.replace(b'"sha256"', b'"sha257"', 1)


@pytest.mark.parametrize(
    "damage", [_cut, _cut_in_header, _empty, _flip, _longer, _older_layout, _broken_header]
)
def test_a_damaged_file_counts_as_missing_and_is_reported_once(
    cache: PlanCache, damage: object
) -> None:
    path = cache.put(_KEY, _PLAN)
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))

    with capture_logs() as logs:
        assert cache.get(_KEY) is None
        assert cache.get(_KEY) is None

    assert [line["log_level"] for line in logs] == ["warning"]
    assert logs[0]["why"]
    assert not path.exists()


def test_a_file_under_the_wrong_name_is_not_taken(cache: PlanCache) -> None:
    other = replace(_KEY, precision="fp32")
    cache.put(other, _PLAN).rename(cache.path(_KEY))

    with capture_logs() as logs:
        assert cache.get(_KEY) is None
    assert len(logs) == 1


def test_nothing_half_written_is_left_behind(
    cache: PlanCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put(_KEY, b"old")

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("services.runtime.plan_cache.os.fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        cache.put(_KEY, _PLAN)

    assert cache.get(_KEY) == b"old"
    assert [path.name for path in cache.folder.iterdir()] == [_KEY.file_name]


def test_old_entries_can_be_listed_and_removed(cache: PlanCache) -> None:
    old = replace(_KEY, engine="tensorrt_rtx 1.6")
    timing = replace(_KEY, kind="timing")
    for key in (old, _KEY, timing):
        cache.put(key, _PLAN)
    cache.path(_KEY).write_bytes(b"damaged")

    entries = cache.entries()

    assert {entry.key for entry in entries} == {old, timing, None}
    assert {entry.path for entry in entries} == set(map(cache.path, (old, _KEY, timing)))
    assert all(entry.size == entry.path.stat().st_size for entry in entries)
    for entry in entries:
        cache.remove(entry)
    assert cache.entries() == []


def test_an_empty_cache_has_no_entries(tmp_path: Path) -> None:
    assert PlanCache(tmp_path / "none").entries() == []
