"""skeleton"""

from __future__ import annotations

import numpy as np


def mark_image(image: np.ndarray) -> np.ndarray:
    return image.copy()
