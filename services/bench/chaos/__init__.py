"""Mien under faults: a whole Mien of real processes, broken one way after another under load."""

from services.bench.chaos.bench import bench_chaos, chosen_faults
from services.bench.chaos.table import print_table
from services.bench.chaos.trial import Trial

__all__ = ["Trial", "bench_chaos", "chosen_faults", "print_table"]
