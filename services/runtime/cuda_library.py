"""Finds the CUDA runtime library and sees whether there is a device."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import os
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.runtime.cuda import CudaError, CudaRuntime
from services.runtime.engine import EngineError

# Newest first. The soname is the ABI: what is called here is the same in all of them.
_SONAMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so")
_WHEELS = ("nvidia/cu13/lib", "nvidia/cuda_runtime/lib")
_TOOLKITS = ("/usr/local/cuda/lib64", "/usr/local/cuda/targets/x86_64-linux/lib")


def open_runtime(load: Callable[[str], Any] | None = None) -> CudaRuntime:
    """Loads the newest CUDA runtime that the driver can serve, and sees that there is a device.

    Args:
        load: loads a library by name or path, or raises OSError.

    Raises:
        EngineError: "no CUDA device", and why.
    """
    reasons = []
    for candidate in library_candidates():
        try:
            runtime = CudaRuntime((load or _load)(candidate))
            if runtime.device_count() > 0:
                return runtime
        except OSError:
            continue
        except CudaError as error:
            reasons.append(str(error))
        else:
            reasons.append("the driver sees none.")
    if reasons:
        raise EngineError(f"no CUDA device: {reasons[0]}")
    raise EngineError("no CUDA device can be used: libcudart, the CUDA runtime, is not installed.")


def _load(name: str) -> Any:
    library = ctypes.CDLL(name)
    library.cudaGetErrorName.restype = ctypes.c_char_p
    return library


@functools.cache
def cuda_runtime() -> CudaRuntime:
    """The process's CUDA runtime, loaded once; see `open_runtime`."""
    return open_runtime()


def library_candidates() -> list[str]:
    """Where the CUDA runtime may be: the loader's path, NVIDIA's wheels, an unpacked toolkit."""
    packages = Path(sysconfig.get_paths()["purelib"])
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    folders = [packages / wheel for wheel in _WHEELS]
    folders += [Path(home) / "lib64"] if home else []
    folders += [Path(toolkit) for toolkit in _TOOLKITS]
    found = [
        str(folder / name) for folder in folders for name in _SONAMES if (folder / name).is_file()
    ]
    known = ctypes.util.find_library("cudart")
    return [*_SONAMES, *found, *([known] if known else [])]
