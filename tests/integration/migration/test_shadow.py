"""The report on what the next model would have answered."""

from __future__ import annotations

import json
from pathlib import Path

import cv2

from services.migration.shadow import Book, Shown, Tally, tally_of, write_tally
from tests.integration.migration.migrating import NEW, migrating


def test_each_pair_of_answers_counts_as_what_it_means() -> None:
    tally = Tally()
    nobody = Shown(None, -0.1)
    for live, following in (
        (Shown("a", 0.2), Shown("a", 0.1)),
        (Shown("a", 0.2), Shown("b", 0.1)),
        (Shown("a", 0.2), nobody),
        (nobody, Shown("a", 0.1)),
        (nobody, Shown(None, None)),
    ):
        tally.count(live, following)
    counts = (tally.same, tally.other, tally.lost, tally.gained, tally.neither)
    assert counts == (1, 1, 1, 1, 1)
    assert tally.agreement == 2 / 5
    assert (sum(tally.live_leads), sum(tally.next_leads)) == (5, 4)
    assert sum(tally.live_leads[20:]) == 3  # above the threshold


async def test_tallies_of_several_processes_are_added_and_go_with_the_migration(
    tmp_path: Path,
) -> None:
    async with migrating(tmp_path, 10) as (gallery, migrations, name):
        for _ in range(2):
            book = Book(NEW)
            book.tally.count(Shown("a", 0.1), Shown("a", 9.0))
            await book.save(gallery)
        tally = await migrations.shadow(name)
        assert (tally.looked, tally.same, tally.next_leads[-1]) == (2, 2, 2)
        write_tally(tally, tmp_path / "report")
        assert json.loads((tmp_path / "report" / "shadow.json").read_text())["looked"] == 2
        assert "100.0 %" in (tmp_path / "report" / "shadow.md").read_text()
        assert cv2.imread(str(tmp_path / "report" / "shadow.png")) is not None
        await migrations.discard(name)
        assert (await tally_of(gallery, NEW)).looked == 0
