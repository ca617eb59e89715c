"""What one large picture needed does not stay in the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import sys, numpy as np
from services.allocator import give_back_large_blocks

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

if sys.argv[1] == "fixed":
    assert give_back_large_blocks()
for _ in range(3):
    np.ones(31 << 20, np.uint8)  # freed at once; by itself, glibc then keeps blocks of this size
first = np.ones(30 << 20, np.uint8)
last = np.ones(100_000, np.uint8)  # small: stays above it in the heap
before = resident()
del first
print(before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("mode", "given_back"), [("fixed", True), ("as it is", False)])
def test_a_large_block_goes_back_to_the_system_below_a_small_one(
    mode: str, given_back: bool
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, mode], capture_output=True, text=True, check=True
    )
    assert (int(done.stdout) > 29 << 20) is given_back
