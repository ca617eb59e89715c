"""Speed, each figure beside a reference that was measured in the same run."""

from services.bench.result import BenchResult

__all__ = ["BenchResult"]
