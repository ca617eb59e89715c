"""A new master key: all data keys are wrapped with it, and no row is touched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.errors import Errors, MienError
from services.gallery.embedded.core import Core
from services.gallery.embedded.keys import (
    key_file,
    new_key,
    next_key_file,
    parse_key,
    write_key,
)
from services.gallery.embedded.wrapping import KeyWrapper, MasterKey
from services.settings import GallerySettings


@contextmanager
def new_master(
    settings: GallerySettings, database: Path, file: Path | None
) -> Iterator[tuple[MasterKey, Path]]:
    """A master key from a file, or made; the block wraps with it.

    Args:
        settings: where the old one is.
        database: that it is of.
        file: holds the new key, or is where it is written; None puts a new one in the place of the
            old file when the block has ended well.

    Raises:
        MienError: the old key is in no file, and no file is named for the new one.
    """
    if file is not None:
        if not file.exists():
            write_key(file, new_key())
        text = file.read_text(encoding="ascii", errors="replace")
        yield MasterKey(parse_key(text, str(file))), file
        return
    if settings.master_key.get_secret_value() or settings.key_command:
        raise MienError(
            Errors.INVALID_REQUEST,
            "The master key is in no file of Mien's: name a file for the new one.",
            field="new-master-key-file",
        )
    at = key_file(settings, database)
    draft = next_key_file(at)
    draft.unlink(missing_ok=True)  # left by a rotation that did not come to its commit
    key = new_key()
    write_key(draft, key)
    yield MasterKey(key), at
    draft.replace(at)


async def rewrap(core: Core, master: KeyWrapper) -> None:
    """Wraps all data keys with another master key, in one transaction.

    Raises:
        MienError: one of the two master keys cannot be used; nothing has changed.
    """

    def work() -> None:
        core.database.transaction(lambda connection: core.rows.rewrap(connection, master))
        core.rows.master = master
        core.database.empty_log()

    await core.database.alone(work)
