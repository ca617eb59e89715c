"""How many files and connections the process may open."""

from __future__ import annotations

import resource


def open_files() -> int:
    """How many files this process may have open at once."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def allow_many_files() -> None:
    """Takes as many as the system grants: the usual 1024 are for programs that use `select`."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
