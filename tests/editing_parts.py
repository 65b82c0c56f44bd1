"""A picture and a driver that tests of editing share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch

from generation.editing.drivers import Driver
from generation.motion import expression_of


def picture(height: int = 300, width: int = 400, seed: int = 0) -> np.ndarray:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 1, (height, width, 3)), (0, 0), 2.5)
    return np.asarray((128 + 45 * noise / noise.std()).clip(0, 255).astype(np.uint8))


def clip_driver(**about: Any) -> Driver:
    """Two moments: jaw .5, then jaw .9 and a blink; the driver's calm face has its jaw at .1."""
    moments = [expression_of({"jawOpen": 0.5}), expression_of({"jawOpen": 0.9, "eyeBlinkLeft": 1.0})]
    neutral = expression_of({"jawOpen": 0.1}).numpy()
    driver = Driver(np.array([0, 1.0]), torch.stack(moments).numpy(), neutral, np.ones(52, bool))
    return replace(driver, **about)
