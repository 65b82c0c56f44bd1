"""The panel: all judges that can be had, and every metric of a set of swaps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any, Self, TypeVar

import torch

from generation.faces.identities import FaceEmbedder
from generation.faces.landmarks import FaceReader, FanReader
from generation.metrics.expression import apd, expression_quality
from generation.metrics.identity import csim, embeddings
from generation.metrics.landmarks import akd_256, akd_iod
from generation.metrics.perceptual import Lpips
from generation.metrics.pixels import mean
from generation.metrics.quality import SwapImages, pixel_quality
from generation.metrics.readings import fan_landmarks, read_faces
from generation.records import UserError

T = TypeVar("T")

MEDIAPIPE, FAN = "MediaPipe Face Landmarker", "FAN (face_alignment 2DFAN-4)"

_NONE = dict.fromkeys(
    ("aed", "aed_copy", "aed_truth", "aed_truth_exact", "aed_truth_copy", "nearer_wanted", "nearer_wanted_exact",
     "nearer_target", "akd_256", "akd_256_copy", "akd_iod", "akd_iod_copy", "apd", "apd_copy", "csim", "csim_ceiling",
     "lpips")
)  # fmt: skip


class Panel:
    """Context manager around MediaPipe, FAN, a face-recognition network and AlexNet, all on the CPU.

    reader, fan, embedder, lpips: each None where it cannot be had; absent: for each of these a line that says what is
    not judged, which file is missing, where it comes from and where to put it
    """

    def __init__(self) -> None:
        self.reader: FaceReader | None = None
        self.fan: FanReader | None = None
        self.embedder: FaceEmbedder | None = None
        self.lpips: Lpips | None = None
        self.absent: list[str] = []
        self._open = ExitStack()

    def __enter__(self) -> Self:
        def reader() -> FaceReader:
            return self._open.enter_context(FaceReader())

        self.reader = self._had(reader, "expressions, poses and landmarks are not judged")
        self.embedder = self._had(FaceEmbedder, "identity is not judged")
        self.fan = self._had(FanReader, "landmarks are judged by MediaPipe instead of FAN") if self.reader else None
        self.lpips = self._had(Lpips, "LPIPS is not measured")
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def _had(self, make: Callable[[], T], without: str) -> T | None:
        try:
            return make()
        except UserError as error:
            self.absent.append(f"{without}: {error}")
            return None

    def quality(self, swaps: SwapImages, judged: int) -> dict[str, Any]:
        """Every metric of the swaps, those that need a network of the first `judged` of them.

        A number is None where its judge cannot be had or nothing could be judged. `unread` counts, by judge, the faces
        not found among source, result and target: means are over the swaps in which all three were. `judges` tells of
        every number who judged it and how it is normalised. "..._copy" is what copying the source would have.
        """
        some = swaps.select(slice(0, judged))
        numbers: dict[str, Any] = {
            "swaps": len(swaps),
            "visible": int(swaps.visible().sum()),
            "judged": len(some),
            **pixel_quality(swaps),
            **_NONE,
            "unread": {},
        }
        if len(some):
            self._readings(some, numbers)
            self._identity(some, numbers)
            if self.lpips is not None:
                numbers["lpips"] = mean(self.lpips(some.result / 255, some.target / 255))
        return numbers | {"judges": self.judges()}

    def _readings(self, swaps: SwapImages, numbers: dict[str, Any]) -> None:
        if self.reader is None:
            return
        source, result, target = (
            read_faces(images, self.reader) for images in (swaps.source, swaps.result, swaps.target)
        )
        found = expression_quality(
            source.expression, result.expression, target.expression, swaps.wanted, swaps.visible()
        )
        numbers |= asdict(found)
        numbers["unread"] = {MEDIAPIPE: found.unread}
        read = source.found & result.found & target.found
        numbers["apd"] = mean(apd(result.pose, target.pose)[read])
        numbers["apd_copy"] = mean(apd(source.pose, target.pose)[read])
        points = source.landmarks, result.landmarks, target.landmarks
        if self.fan is not None:
            points = (
                fan_landmarks(swaps.source, source, self.fan),
                fan_landmarks(swaps.result, result, self.fan),
                fan_landmarks(swaps.target, target, self.fan),
            )
            missing = [value.isnan().any(2).any(1) for value in points]
            names = ("source", "result", "target")
            numbers["unread"][FAN] = {name: int(lost.sum()) for name, lost in zip(names, missing, strict=True)}
            read = ~torch.stack(missing).any(0)
        for name, metric in (("akd_256", akd_256), ("akd_iod", akd_iod)):
            numbers[name] = mean(metric(points[1], points[2])[read])
            numbers[f"{name}_copy"] = mean(metric(points[0], points[2])[read])

    def _identity(self, swaps: SwapImages, numbers: dict[str, Any]) -> None:
        if self.embedder is None:
            return
        source = embeddings(swaps.source, swaps.source_landmarks, self.embedder)
        target = embeddings(swaps.target, swaps.target_landmarks, self.embedder)
        result = embeddings(swaps.result, swaps.target_landmarks, self.embedder)
        numbers["csim"] = mean(csim(result, source))
        numbers["csim_ceiling"] = mean(csim(target, source))

    def judges(self) -> dict[str, str]:
        """Who judges each number and how it is normalised."""
        frame = "no judge: on [0, 1], each frame, then the mean over frames"
        face = "; on the convex hull of the target's landmarks with the brows raised by a third of the face"
        changed = "; on pixels where source and target differ by more than 0.04, of swaps with at least 1 % of them"
        reader = MEDIAPIPE if self.reader else "none: MediaPipe's model is not here"
        points = FAN if self.fan else f"{reader}, its points for the 68 landmarks (FAN is not here)"
        identity = self.embedder.name if self.embedder else "none: the identity network is not here"
        lpips = "AlexNet of torchvision, LPIPS 0.1" if self.lpips else "none: AlexNet's weights are not here"
        return {
            "changed_l1_ratio": "no judge: L1 in the changed region over that of copying the source, sums of all swaps",
            **dict.fromkeys(("l1", "psnr", "ssim"), frame),
            **{f"{name}_face": frame + face for name in ("l1", "psnr", "ssim")},
            **{f"{name}_changed": frame + changed for name in ("l1", "psnr", "ssim")},
            "background_l1": "no judge: against the source, pixels outside the faces of source and target",
            "aed": f"{reader}: mean |difference| of 51 actions in [0, 1], forgery against exact target",
            "aed_truth": f"{reader}: mean |reading - wanted| of 39 actions in [0, 1], the wanted ones known",
            "nearer_wanted": f"{reader}: L2 of 51 actions",
            "akd_256": f"{points}: mean |difference| per coordinate, pixels at 256 px",
            "akd_iod": f"{points}: mean Euclidean distance over the distance of the outer eye corners",
            "apd": f"{reader}: mean |difference| of pitch, yaw and roll, radians",
            "csim": f"{identity}: cosine of embeddings, forgery against source; aligned by five points",
            "csim_ceiling": f"{identity}: the same, exact target against source",
            "lpips": f"{lpips}: forgery against exact target, at their own size",
        }
