"""Says what is wrong with a set-up, and what to do about it. It changes nothing."""

from services.doctor.examine import examine
from services.doctor.finding import Finding, State

__all__ = ["Finding", "State", "examine"]
