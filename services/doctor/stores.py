"""What holds state: the gallery, embedded or in Milvus, and Redis."""

from __future__ import annotations

import fcntl
import os
import socket
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit

from services.doctor.finding import Finding, note, ok, wrong
from services.errors import MienError
from services.gallery.embedded.keys import key_file, parse_key
from services.gallery.open import MILVUS, MILVUS_LITE, SQLITE
from services.settings import Settings

_SECONDS = 3.0
_MILVUS_PORT, _REDIS_PORT = 19530, 6379


def gallery(settings: Settings) -> Finding:
    """Whether the gallery can be opened."""
    address = settings.gallery.uri or f"{SQLITE}{settings.home / 'gallery.sqlite3'}"
    if address.startswith(MILVUS):
        return _milvus(address, settings)
    if address.startswith(MILVUS_LITE):
        return _installed("milvus_lite", "gallery", address, "pip install milvus-lite")
    if address.startswith(SQLITE) and len(address) > len(SQLITE):
        return _embedded(Path(address.removeprefix(SQLITE)), settings)
    return wrong(
        "gallery",
        "MIEN_GALLERY__URI is of no kind that is known",
        "It is sqlite:PATH, http(s)://HOST:PORT of Milvus, or milvus-lite:PATH.",
    )


def redis(url: str) -> Finding:
    """Whether Redis answers, if one is named."""
    if not url:
        return ok("redis", "none is named; each gateway keeps its own state")
    try:
        import redis as client  # noqa: PLC0415 - an extra
    except ImportError:
        return wrong("redis", "its client is not installed", "pip install redis")
    where = urlsplit(url)
    shown = f"{where.hostname or where.path}:{where.port or _REDIS_PORT}"  # without its password
    connection = client.Redis.from_url(
        url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS
    )
    try:
        connection.ping()
    except client.RedisError as error:
        return wrong(
            "redis",
            f"{shown}: {type(error).__name__}",
            "Start it, or mend the address and its password; without it gateways share nothing.",
        )
    finally:
        connection.close()
    return ok("redis", f"{shown} answers")


def _embedded(database: Path, settings: Settings) -> Finding:
    key = key_file(settings.gallery, database)
    given = settings.gallery.master_key.get_secret_value()
    try:
        if given:
            parse_key(given, "MIEN_GALLERY__MASTER_KEY")
        elif key.exists():
            parse_key(key.read_text(encoding="ascii", errors="replace"), str(key))
        elif database.exists():
            return wrong(
                "gallery",
                f"the master key of {database} is not at {key}",
                "Bring it back from where its copy is kept; without it nothing can be read.",
            )
    except (MienError, OSError) as error:
        return wrong("gallery", str(error), "Bring the master key back from where it is kept.")
    if not database.exists():
        return ok("gallery", f"{database} will be made with the first start")
    if _is_held(database.with_name(database.name + ".lock")):
        return ok("gallery", f"{database} is held by a running Mien")
    try:
        # Nobody writes, so that it can be read without the files that SQLite would make beside it.
        address = f"{database.resolve().as_uri()}?mode=ro&immutable=1"
        with sqlite3.connect(address, uri=True) as connection:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        connection.close()
    except sqlite3.Error as error:
        return wrong(
            "gallery", f"{database}: {error}", "Restore a backup: docs/operations.md says how."
        )
    if not given and key.stat().st_mode & 0o077:
        return note("gallery", f"others can read {key}", f"chmod 600 {key}")
    if not os.access(database, os.W_OK):
        return wrong(
            "gallery",
            f"user {os.getuid()} cannot write {database}",
            "Give it to the user that Mien runs as.",
        )
    return ok("gallery", f"{database}, {database.stat().st_size / 1e6:.1f} MB")


def _is_held(lock: Path) -> bool:
    if not lock.exists():
        return False
    with lock.open("rb") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _milvus(address: str, settings: Settings) -> Finding:
    where = urlsplit(address)
    host, port = where.hostname or "", where.port or _MILVUS_PORT
    try:
        socket.create_connection((host, port), timeout=_SECONDS).close()
    except OSError as error:
        return wrong(
            "gallery",
            f"Milvus at {host}:{port}: {error.strerror or error}",
            "Start it, or mend MIEN_GALLERY__URI.",
        )
    try:
        from pymilvus import MilvusClient, MilvusException  # noqa: PLC0415 - an extra
    except ImportError:
        return wrong(
            "gallery", "Milvus's client is not installed", "pip install 'mien[gallery-milvus]'"
        )
    try:
        client = MilvusClient(
            uri=address, token=settings.gallery.token.get_secret_value(), timeout=_SECONDS
        )
        version = client.get_server_version()
        client.close()
    except MilvusException as error:
        return wrong(
            "gallery",
            f"{host}:{port} listens, and Milvus does not answer ({type(error).__name__})",
            "Look at its log; mend MIEN_GALLERY__TOKEN if it asks for one.",
        )
    return ok("gallery", f"Milvus {version} at {host}:{port}")


def _installed(package: str, check: str, found: str, remedy: str) -> Finding:
    try:
        __import__(package)
    except ImportError:
        return wrong(check, f"{package} is not installed", remedy)
    return ok(check, found)
