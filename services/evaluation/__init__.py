"""Measures models on whole pictures, through the real pipeline."""

from services.evaluation.extract import Extraction, extract
from services.evaluation.pairs import Pair, PairsError, read_pairs

__all__ = ["Extraction", "Pair", "PairsError", "extract", "read_pairs"]
