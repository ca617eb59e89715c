"""What keeps the master key: here, or in a system of its own that is asked by a command."""

from __future__ import annotations

import base64
import binascii
import os
import shlex
import subprocess
from pathlib import Path
from typing import Protocol

from services.errors import Errors, MienError
from services.gallery.embedded.keys import Cipher, master_keys, new_key
from services.settings import GallerySettings

_COMMAND_SECONDS = 20.0
_CONTEXT = "MIEN_KEY_CONTEXT"


class KeyWrapper(Protocol):
    """Wraps keys with a master key, and unwraps them again."""

    def wrap(self, key: bytes, *place: str) -> bytes:
        """Encrypts a key for one place, such as ("tenant", "acme").

        Raises:
            MienError: GALLERY_UNAVAILABLE; the master key cannot be used.
        """
        ...

    def unwrap(self, wrapped: bytes, *place: str) -> bytes:
        """Decrypts a key that was wrapped for the same place.

        Raises:
            MienError: GALLERY_UNAVAILABLE; it was wrapped with another master key or for another
                place, or the master key cannot be used.
        """
        ...


class MasterKey:
    """A master key in this process's memory, from a file or the environment.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = Cipher(key)

    def wrap(self, key: bytes, *place: str) -> bytes:
        """See `KeyWrapper.wrap`."""
        return self._cipher.seal(key, *place)

    def unwrap(self, wrapped: bytes, *place: str) -> bytes:
        """See `KeyWrapper.unwrap`."""
        try:
            return self._cipher.open(wrapped, *place)
        except MienError as error:
            raise MienError(
                Errors.GALLERY_UNAVAILABLE, "The master key is not this gallery's."
            ) from error


class KeyCommand:
    """A master key that never comes here: a command wraps and unwraps.

    It is run with one argument more, "wrap" or "unwrap", reads base64 on standard input and writes
    base64 on standard output. What the key is for stands in MIEN_KEY_CONTEXT, as "tenant:acme", for
    systems that bind a key to its context.

    Args:
        command: as a shell would part it; no shell runs it.
    """

    def __init__(self, command: str) -> None:
        self._command = shlex.split(command)

    def wrap(self, key: bytes, *place: str) -> bytes:
        """See `KeyWrapper.wrap`."""
        return self._asked("wrap", key, place)

    def unwrap(self, wrapped: bytes, *place: str) -> bytes:
        """See `KeyWrapper.unwrap`."""
        return self._asked("unwrap", wrapped, place)

    def _asked(self, verb: str, given: bytes, place: tuple[str, ...]) -> bytes:
        try:
            # What it writes on standard error is for the operator; nothing of it is kept here.
            done = subprocess.run(  # noqa: S603 - the operator's own command, without a shell
                [*self._command, verb],
                input=base64.b64encode(given) + b"\n",
                stdout=subprocess.PIPE,
                env={**os.environ, _CONTEXT: ":".join(place)},
                timeout=_COMMAND_SECONDS,
                check=True,
            )
            return base64.b64decode(done.stdout.strip(), validate=True)
        except (OSError, subprocess.SubprocessError, binascii.Error, ValueError) as error:
            raise MienError(
                Errors.GALLERY_UNAVAILABLE,
                f"MIEN_GALLERY__KEY_COMMAND failed to {verb} a key of the master key's.",
            ) from error


def wrappers(settings: GallerySettings, database: Path) -> list[KeyWrapper]:
    """What may unwrap the keys of a database, likeliest first; see `master_keys`.

    Raises:
        MienError: no master key is here although the database is, or what is here is no key.
    """
    if settings.key_command:
        return [KeyCommand(settings.key_command)]
    return [MasterKey(key) for key in master_keys(settings, database)]


def proof(wrapper: KeyWrapper, place: str) -> bytes:
    """A wrapped key that is used for nothing: whoever unwraps it has the right master key."""
    return wrapper.wrap(new_key(), place)
