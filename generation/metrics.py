"""Reenactment metrics: how near a forgery comes to the exact target, beside what copying the source would give.

Images are (N, 3, H, W) in [0, 1]. Faces that MediaPipe, the judge of expression, does not find are counted and
returned, never dropped in silence.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.image import structural_similarity_index_measure

from generation.faces.landmarks import READING_SIZE, FaceReader
from generation.losses import changed_region
from generation.motion import ACTIONS, EXPRESSION_SIZE

VISIBLE_SHARE = 0.01
"""A swap has a visible change where at least this share of the frame's pixels has changed (41 at 64 px, a blink)."""

_READ = torch.tensor([index for index, name in enumerate(ACTIONS) if name != "tongueOut"])


def visible_change(source: Tensor, target: Tensor) -> Tensor:  # (N,) bool
    """Which swaps change at least `VISIBLE_SHARE` of the frame's pixels."""
    return changed_region(source, target).float().mean((1, 2, 3)) >= VISIBLE_SHARE


def changed_l1_ratio(source: Tensor, result: Tensor, target: Tensor) -> float | None:
    """Error in the changed region as a share of what copying the source gives: 0 is perfect, 1 no better than a copy.

    The sum of |result - target| over the sum of |source - target|, both over channels and changed pixels of all swaps:
    one that changes much counts for more, one without a changed pixel not at all. None where no pixel changes at all.
    """
    changed = changed_region(source, target)
    copy = ((source - target).abs() * changed).sum(dtype=torch.float64)
    error = ((result - target).abs() * changed).sum(dtype=torch.float64)
    return float(error / copy) if copy > 0 else None


def psnr(result: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 1: of each frame over pixels and channels, then their mean.

    A frame counts as 100 dB at most, so that one without any error does not make the mean infinite.
    """
    error = (result - target).double().square().mean((1, 2, 3))
    return float((-10 * error.clamp_min(1e-10).log10()).mean())


def ssim(result: Tensor, target: Tensor) -> float:
    """Structural similarity (Wang et al. 2004), 1 for identical frames: 11 x 11 Gaussian window of sigma 1.5, peak 1.

    Per channel, then the mean over the pixels whose whole window lies in the frame (at least 11 x 11), as scikit-image
    and the paper take it; torchmetrics alone averages padded borders in and guesses the peak from each batch.
    """
    frames = []
    for index in range(len(result)):  # one by one: torchmetrics holds ten copies of what it is given
        pair = result[index : index + 1].float(), target[index : index + 1].float()
        _, similarity = structural_similarity_index_measure(*pair, sigma=1.5, data_range=1.0, return_full_image=True)
        frames.append(similarity[..., 5:-5, 5:-5].mean())
    return float(torch.stack(frames).mean())


def background_l1(source: Tensor, result: Tensor, changed: Tensor) -> float:  # changed: (N, 1, H, W) bool
    """What leaks into pixels that should stay: mean |result - source| over channels and all pixels outside `changed`.

    0 is perfect; so is a set where every pixel changes.
    """
    stays = (~changed).expand_as(source)
    leak = ((result - source).abs() * stays).sum(dtype=torch.float64)
    return float(leak / stays.sum().clamp_min(1))


def expression_readings(images: Tensor, reader: FaceReader) -> Tensor:  # (N, 3, H, W) uint8 -> (N, 52)
    """MediaPipe's reading of each face, a row of NaN where none is found; below 256 px images are enlarged first."""
    readings = torch.full((len(images), EXPRESSION_SIZE), torch.nan)
    small = min(images.shape[2:]) < READING_SIZE
    for index in range(len(images)):
        image = images[index : index + 1].cpu()
        if small:
            enlarged = functional.interpolate(image.float(), size=READING_SIZE, mode="bicubic")
            image = enlarged.round().clamp(0, 255).to(torch.uint8)
        reading = reader.read(image[0].permute(1, 2, 0).numpy())
        if reading is not None:
            readings[index] = torch.from_numpy(reading.expression)
    return readings


@dataclass(frozen=True)
class ExpressionError:
    """How a third party reads the forgeries' expressions: 51 actions (MediaPipe does not read `tongueOut`).

    expression_error: mean |reading of the forgery - reading of the exact target| over actions and over the swaps in
        which all three faces were read; AED in the sense of expressions, not comparable across readers
    expression_error_copy: the same for copying the source
    nearer_wanted: share of visible swaps whose forgery's reading is nearer (L2) to the wanted expression than the
        source's reading is; a forgery in which no face is found is not nearer
    nearer_wanted_exact: the same for the exact target in the place of the forgery: what a perfect reenactor would have
    nearer_target: as nearer_wanted, with the target's reading in the place of the wanted expression
    unread: faces not found, by "source", "result" and "target"; a swap with an unread source or target is not judged

    A number is None where no swap could be judged.
    """

    expression_error: float | None
    expression_error_copy: float | None
    nearer_wanted: float | None
    nearer_wanted_exact: float | None
    nearer_target: float | None
    unread: dict[str, int]


def expression_error(
    source: Tensor, result: Tensor, target: Tensor, wanted: Tensor, visible: Tensor
) -> ExpressionError:
    """Judge swaps by the readings of their source, result and target, each (N, 52) with NaN rows for faces not found.

    wanted: Tensor   # (N, 52) in [0, 1], the expression that was asked for
    visible: Tensor  # (N,) bool, swaps that count for the two shares
    """
    readings = {"source": source, "result": result, "target": target}
    unread = {name: reading.isnan().any(1) for name, reading in readings.items()}
    source, result, target, wanted = (value[:, _READ] for value in (source, result, target, wanted))
    judged = ~(unread["source"] | unread["target"])
    read = judged & ~unread["result"]

    def mean(values: Tensor) -> float | None:
        return float(values.double().mean()) if len(values) else None

    def nearer(goal: Tensor, reading: Tensor) -> float | None:
        closer = torch.linalg.vector_norm(reading - goal, dim=1) < torch.linalg.vector_norm(source - goal, dim=1)
        return mean(closer[judged & visible])  # NaN < x is false: an unread forgery is not nearer

    return ExpressionError(
        expression_error=mean((result - target).abs()[read]),
        expression_error_copy=mean((source - target).abs()[read]),
        nearer_wanted=nearer(wanted, result),
        nearer_wanted_exact=nearer(wanted, target),
        nearer_target=nearer(target, result),
        unread={name: int(missing.sum()) for name, missing in unread.items()},
    )


@dataclass(frozen=True)
class Quality:
    """A reenactor's quality on a set of swaps with exact targets; each field is explained at the function of its name.

    swaps, visible: how many swaps, and in how many of them at least `VISIBLE_SHARE` of the pixels changes
    expression_error and below: see `ExpressionError`; None where expressions are not judged
    """

    swaps: int
    visible: int
    changed_l1_ratio: float | None
    psnr: float
    ssim: float
    background_l1: float
    expression_error: float | None = None
    expression_error_copy: float | None = None
    nearer_wanted: float | None = None
    nearer_wanted_exact: float | None = None
    nearer_target: float | None = None
    unread: dict[str, int] | None = None


def quality(
    source: Tensor,
    result: Tensor,
    target: Tensor,
    wanted: Tensor | None = None,
    reader: FaceReader | None = None,
) -> Quality:
    """All metrics of swaps, of images (N, 3, H, W) in [0, 1] and wanted expressions (N, 52).

    Expressions are judged where both `wanted` and a reader are given (its model cannot be had everywhere).
    """
    visible = visible_change(source, target)
    pixels = Quality(
        swaps=len(source),
        visible=int(visible.sum()),
        changed_l1_ratio=changed_l1_ratio(source, result, target),
        psnr=psnr(result, target),
        ssim=ssim(result, target),
        background_l1=background_l1(source, result, changed_region(source, target)),
    )
    if wanted is None or reader is None:
        return pixels
    readings = [
        expression_readings((images * 255).round().clamp(0, 255).to(torch.uint8), reader)
        for images in (source, result, target)
    ]
    found = expression_error(readings[0], readings[1], readings[2], wanted.cpu(), visible.cpu())
    return replace(pixels, **asdict(found))
