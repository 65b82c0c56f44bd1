"""All figures of one detector on one set of faces."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from detection.metrics.calibration import brier, cllr, cllr_min, ece
from detection.metrics.intervals import bootstrap_by_identity
from detection.metrics.ranking import auroc, average_precision, balanced_accuracy, checked, eer, tpr_at_fpr


def summarise(
    labels: ArrayLike, scores: ArrayLike, identities: ArrayLike, threshold: float, seed: int = 0
) -> dict[str, float | int]:
    """All figures of one detector on one set of faces; `threshold` was chosen on other people."""
    truth, score, _ = checked(labels, scores)
    low, high = bootstrap_by_identity(auroc, truth, score, identities, seed=seed)
    return {
        "auroc": auroc(truth, score),
        "auroc_low": low,
        "auroc_high": high,
        "eer": eer(truth, score),
        "average_precision": average_precision(truth, score),
        "tpr_at_1_percent_fpr": tpr_at_fpr(truth, score, 0.01),
        "tpr_at_0.1_percent_fpr": tpr_at_fpr(truth, score, 0.001),
        "balanced_accuracy": balanced_accuracy(truth, score, threshold),
        "ece": ece(truth, score),
        "brier": brier(truth, score),
        "cllr": cllr(truth, score),
        "cllr_min": cllr_min(truth, score),
        "threshold": float(threshold),
        "real": int((truth == 0).sum()),
        "forged": int(truth.sum()),
        "identities": len(np.unique(np.asarray(identities))),
    }
