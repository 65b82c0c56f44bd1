"""What a reenactor says, laid over the whole frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from editing_parts import picture

from generation.editing import following
from generation.editing.redrawing import Look, lay_over
from generation.faces.alignment import Square
from generation.reenactors import Reenactment


def answer(crop: np.ndarray, flow: tuple[float, float] = (0, 0), shown: slice = slice(12, 52)) -> Reenactment:
    """What a reenactor says that moves everything by `flow` pixels of the crop and draws nothing of its own."""
    x, y = np.meshgrid(*(np.arange(64, dtype=np.float32),) * 2)
    moved = cv2.remap(
        crop.astype(np.float32) / 255, x + flow[0], y + flow[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., shown, shown] = 1
    everywhere = torch.tensor(flow).view(1, 2, 1, 1).expand(1, 2, 64, 64).float()
    return Reenactment(torch.from_numpy(moved).permute(2, 0, 1)[None], mask, everywhere)


def look_at(frame: np.ndarray, square: Square) -> Look:
    return Look(square, square.crop(frame, 64), torch.zeros(0), torch.zeros(0), [])


SQUARES = [
    Square(200, 150, 200, 0),
    Square(190.3, 140.8, 170, 0.3),
    Square(20, 280, 150, -0.5),
    Square(200, 150, 64, 0),
]


@pytest.mark.parametrize("square", SQUARES)
def test_outside_the_mask_pixels_stay_bit_for_bit_and_inside_detail_does(square: Square) -> None:
    frame = picture()
    look = look_at(frame, square)
    out, mask = lay_over(frame, frame, look, answer(look.crop))
    assert (out[mask == 0] == frame[mask == 0]).all() and (mask == 0).any() and (mask == 255).any()
    inside = cv2.warpAffine(np.ones((64, 64), np.uint8), square.matrix(64), (400, 300), flags=cv2.WARP_INVERSE_MAP)
    assert not mask[inside == 0].any(), "nothing is touched outside the square"
    assert np.abs(out.astype(int) - frame).max() <= 1, "a flow of 0 that draws nothing keeps all detail"


@pytest.mark.parametrize("square", SQUARES[:2])
def test_a_flow_moves_the_frames_own_pixels(square: Square) -> None:
    frame = picture()
    look = look_at(frame, square)
    out, mask = lay_over(frame, frame, look, answer(look.crop, flow=(2, -3)))
    factor, cos, sin = square.side / 64, np.cos(square.angle), np.sin(square.angle)
    dx, dy = factor * (2 * cos + 3 * sin), factor * (2 * sin - 3 * cos)
    moved = cv2.warpAffine(
        frame, np.array([[1, 0, dx], [0, 1, dy]]), (400, 300), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    )
    deep = cv2.erode(mask, np.ones((31, 31))) == 255
    assert deep.sum() > 1000 and np.abs(out.astype(int) - moved)[deep].mean() < 1.5
    assert np.abs(frame.astype(int) - moved)[deep].mean() > 10


def test_what_is_drawn_is_drawn_without_the_detail_of_something_else() -> None:
    frame = picture()
    look = look_at(frame, SQUARES[0])
    drawn = answer(look.crop)._replace(image=torch.full((1, 3, 64, 64), 0.2))
    out, mask = lay_over(frame, frame, look, drawn)
    deep = cv2.erode(mask, np.ones((31, 31))) == 255
    far = deep & (np.abs(frame.astype(int) - 51).max(-1) > 90)
    assert far.sum() > 100 and np.abs(out[far].astype(int) - 51).mean() < 12


def test_an_empty_mask_changes_nothing() -> None:
    frame = picture()
    look = look_at(frame, SQUARES[0])
    out, mask = lay_over(frame, frame, look, answer(look.crop, shown=slice(0, 0)))
    assert (out == frame).all() and not mask.any()


@pytest.mark.parametrize(
    ("good", "whole", "wanted"),
    [
        ("11111", (True, True), [1, 1, 1, 1, 1]),
        ("11011", (True, True), [2 / 3, 1 / 3, 0, 1 / 3, 2 / 3]),
        ("11111", (False, True), [0.25, 0.25 + 1 / 3, 0.25 + 2 / 3, 1, 1]),
        ("00000", (True, True), [0, 0, 0, 0, 0]),
    ],
)
def test_an_edit_fades_towards_frames_that_cannot_be_edited(
    good: str, whole: tuple[bool, bool], wanted: list[float]
) -> None:
    weights = following._weights(np.array([mark == "1" for mark in good]), np.arange(5) * 0.04, *whole)
    assert weights == pytest.approx(wanted, abs=1e-6)
