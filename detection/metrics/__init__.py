"""Scores -> figures: ranking, calibration and worth as evidence, intervals and tests, localisation."""

from detection.metrics.calibration import (
    Reliability,
    brier,
    calibrated,
    cllr,
    cllr_min,
    ece,
    looks_like_probabilities,
    reliability,
    temperature,
)
from detection.metrics.intervals import Difference, Group, Statistic, bootstrap_by_identity, by_group, delong, holm
from detection.metrics.localisation import localisation_ap, localisation_iou
from detection.metrics.ranking import auroc, average_precision, balanced_accuracy, checked, eer, roc, tpr_at_fpr
from detection.metrics.summary import summarise

__all__ = [
    "Difference",
    "Group",
    "Reliability",
    "Statistic",
    "auroc",
    "average_precision",
    "balanced_accuracy",
    "bootstrap_by_identity",
    "brier",
    "by_group",
    "calibrated",
    "checked",
    "cllr",
    "cllr_min",
    "delong",
    "ece",
    "eer",
    "holm",
    "localisation_ap",
    "localisation_iou",
    "looks_like_probabilities",
    "reliability",
    "roc",
    "summarise",
    "temperature",
    "tpr_at_fpr",
]
