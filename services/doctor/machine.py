"""The machine: CPU, memory, GPU, clock, libraries."""

from __future__ import annotations

import importlib.metadata
import os
import time
from pathlib import Path

from services.doctor.finding import Finding, note, ok, wrong

_GIB = 1024**3
# All services in one process with the default models took 717 MB (docs/performance.md).
_LEAST_MEMORY = _GIB
_SLACK = 24 * 3600  # seconds that the clocks of two machines may honestly differ: a time zone
_LIBRARIES = (
    *("mien", "numpy", "onnxruntime", "openvino", "opencv-python-headless", "faiss-cpu"),
    *("grpcio", "protobuf", "fastapi", "pydantic", "tensorrt", "tensorrt-rtx", "pymilvus", "redis"),
)
# Flag of the kernel: what it is called, and what Mien has of it.
_FEATURES = {
    "avx2": ("AVX2", "8 numbers at once"),
    "avx512f": ("AVX-512", "16 numbers at once"),
    "avx512_vnni": ("VNNI", "fast int8 (MIEN_ENGINE__PRECISION=int8)"),
    "avx_vnni": ("AVX-VNNI", "fast int8 (MIEN_ENGINE__PRECISION=int8)"),
    "avx512_bf16": ("BF16", "fast bf16"),
    "amx_tile": ("AMX", "bf16 and int8 several times as fast"),
    "asimd": ("NEON", "4 numbers at once"),
}


def cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> Finding:
    """Instructions that the engines gain by."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return note("cpu", "this system does not tell its CPU", "None: the engines find out.")
    told: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        told[name.strip()] = value
    flags = set((told.get("flags") or told.get("Features") or "").split())
    has = [f"{name}: {gain}" for flag, (name, gain) in _FEATURES.items() if flag in flags]
    if not {"avx2", "asimd"} & flags:
        return note(
            "cpu",
            "no AVX2",
            "Networks run at a fraction of their speed; take a CPU with AVX2 or AVX-512, or let "
            "the virtual machine see the host's.",
        )
    return ok("cpu", "; ".join(has))


def cores(cgroup: Path = Path("/sys/fs/cgroup")) -> Finding:
    """CPUs that the process sees, and its quota of them."""
    seen = len(os.sched_getaffinity(0))
    quota = _quota(cgroup)
    if quota is not None and quota < seen:
        return note(
            "cores",
            f"{seen} CPUs are seen, {quota:g} may be used",
            "More threads than the quota are stopped in mid-work. Use cpuset in its place, or set "
            f"MIEN_ENGINE__THREADS={max(1, int(quota))} and MIEN_GATEWAY__WORKERS="
            f"{max(1, int(quota)) + 1}.",
        )
    return ok("cores", f"{seen} CPUs")


def memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> Finding:
    """Memory that is free for the process."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return note("memory", "this system does not tell its memory", "Give it at least 1 GiB.")
    told = {line.split(":")[0]: line.split(":")[1].split()[0] for line in lines if ":" in line}
    free = int(told["MemAvailable"]) * 1024
    limit = _number(cgroup / "memory.max") or _number(cgroup / "memory/memory.limit_in_bytes")
    text = f"{free / _GIB:.1f} GiB free"
    if limit is not None and limit < free:
        free, text = limit, f"limited to {limit / _GIB:.1f} GiB"
    if free < _LEAST_MEMORY:
        return wrong(
            "memory",
            text,
            "The services with the default models need about 1 GiB: free some, raise the limit, or "
            "load fewer models (MIEN_ENHANCEMENT__MODELS=).",
        )
    return ok("memory", text)


def gpu(why_not: str | None, driver: Path = Path("/proc/driver/nvidia/version")) -> Finding:
    """The GPU. ``why_not`` is the reason why no engine can use one; None if one can."""
    if why_not is None:
        return ok("gpu", "can be used")
    if not driver.exists():
        return ok("gpu", "none (no NVIDIA driver); the CPU is used")
    return note(
        "gpu",
        f"there is an NVIDIA driver, and no engine can use it: {why_not}",
        "Give the container the GPU (--gpus all); install mien[gpu] or TensorRT; `mien engines "
        "list` tells of each engine.",
    )


def clock(now: float | None = None) -> Finding:
    """Whether the clock can be right: it is not before these very files were written."""
    seconds = time.time() if now is None else now
    written = Path(__file__).stat().st_mtime
    shown = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    if seconds < written - _SLACK:
        return wrong(
            "clock",
            f"{shown} is before Mien was installed",
            "Set it, by NTP: enrolments, leases of migrations and tokens go by it.",
        )
    return ok("clock", shown)


def libraries() -> Finding:
    """Versions of what results depend on."""
    found = []
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ok("libraries", ", ".join(found))


def _quota(cgroup: Path) -> float | None:
    """CPUs that the control group allows; None for no limit."""
    try:
        most, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        return None if most == "max" else int(most) / int(period)
    except (OSError, ValueError):
        pass
    most_v1 = _number(cgroup / "cpu/cpu.cfs_quota_us")
    period_v1 = _number(cgroup / "cpu/cpu.cfs_period_us")
    return most_v1 / period_v1 if most_v1 and most_v1 > 0 and period_v1 else None


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):  # it is not there, or says "max"
        return None
