"""Keeps a long-running process from holding what one large picture needed.

glibc raises the size from which blocks are given back at once to that of the largest block freed
so far (up to 32 MB). After one large picture such blocks therefore stay in the process, in the
arena of each thread that ever held one.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGE = 4 << 20
"""Bytes: more than the tensors of an ordinary picture, which would cost page faults each time."""


def give_back_large_blocks() -> bool:
    """Fixes the size from which freed memory goes back to the system at once.

    Returns:
        False where the C library is not glibc: nothing is changed there.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
        ctypes.CDLL(None).gnu_get_libc_version  # noqa: B018 - musl has a mallopt that does nothing
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE) and mallopt(_M_TRIM_THRESHOLD, _LARGE))
