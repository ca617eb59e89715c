"""In which precision a training step computes."""

from __future__ import annotations

import functools

import openvino
import torch


def mixed(device: torch.device, *, wanted: bool) -> torch.autocast:
    """A context in bf16 where that is wanted and the device computes in it.

    A CPU without instructions for bf16 imitates them, ten times slower than fp32; there the
    context changes nothing.
    """
    computes = device.type != "cpu" or _cpu_computes_bf16()
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and computes)


@functools.cache
def _cpu_computes_bf16() -> bool:
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
