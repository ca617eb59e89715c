"""Biometric statistics: error rates, fold accuracy, fitted thresholds, intervals and figures.

The figures live in `models.evaluation.plots`, which alone needs matplotlib.
"""

from models.evaluation.all_comparisons import MatchRates, Pictures, match_rates
from models.evaluation.bootstrap import (
    ImpostorTail,
    Interval,
    TailExhaustedError,
    bootstrap_by_person,
    bootstrap_thresholds,
    pair_weights,
)
from models.evaluation.folds import FoldAccuracy, fold_accuracy
from models.evaluation.rates import (
    EqualErrorRate,
    ErrorCurve,
    TarAtFmr,
    equal_error_rate,
    error_curve,
    false_match_rate,
    false_non_match_rate,
    tar_at_fmr,
    threshold_at_fmr,
)
from models.evaluation.thresholds import FittedThreshold, fit_thresholds
from models.evaluation.verification import VerificationReport, evaluate_pairs

__all__ = [
    "EqualErrorRate",
    "ErrorCurve",
    "FittedThreshold",
    "FoldAccuracy",
    "ImpostorTail",
    "Interval",
    "MatchRates",
    "Pictures",
    "TailExhaustedError",
    "TarAtFmr",
    "VerificationReport",
    "bootstrap_by_person",
    "bootstrap_thresholds",
    "equal_error_rate",
    "error_curve",
    "evaluate_pairs",
    "false_match_rate",
    "false_non_match_rate",
    "fit_thresholds",
    "fold_accuracy",
    "match_rates",
    "pair_weights",
    "tar_at_fmr",
    "threshold_at_fmr",
]
