"""What every benchmark answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class BenchResult:
    """A measurement and its reference.

    Attributes:
        value: what Mien reached.
        reference: what the plain alternative reached in the same run.
        unit: of both, for example "requests/s".
        details: anything else worth knowing, by name.
    """

    value: float
    reference: float
    unit: str
    details: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """One flat object with value, reference, ratio and unit."""
        return {
            "value": round(self.value, 3),
            "reference": round(self.reference, 3),
            "ratio": round(self.value / self.reference, 4),
            "unit": self.unit,
            **self.details,
        }
