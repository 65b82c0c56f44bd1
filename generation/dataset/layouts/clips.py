"""The clips of a set as a layout sees them: their names, and how their frames, videos, masks and landmarks are written.

Whatever shows a face leaves signed, real or forged, with its own statement; the watermark is in the pixels already.
Masks and landmarks are data and show nobody: they are not signed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.reformatter import Colorspace

from generation.editing.writing import complete
from generation.faces.media import LISTED_RATE
from generation.faces.people import ORIGIN
from generation.provenance import Statement, sign
from generation.records import UserError, decode, write_beside

Frame = Mapping[str, Any]
"""A row of the set, see `features.FEATURES`."""

MOST_NUMBERS = 10_000
"""Real clips that FaceForensics++'s names can tell apart where they are read again: 000 to 9999."""

_FACTORS = {"c23": 23, "c40": 40}
"""FaceForensics++'s names -> constant rate factor."""


@dataclass(frozen=True)
class Clip:
    """One clip of the plan.

    name: in the set, as "00012" or "warp/00012_00013"; `short`: in FaceForensics++'s words, as "012" or "012_013",
        whose face it is before whose expression it has (what is called target and source there)
    method: "" for real clips; "warp-1" where one reenactor forged the pair more than once, and this is the second time
    pair: the short names of the two real clips whose expressions are swapped
    frames: how many; size: pixels a side
    """

    name: str
    short: str
    split: str
    label: int
    method: str
    pair: tuple[str, str]
    identity: str
    compression: str
    frames: int
    size: int

    @classmethod
    def of(cls, row: Mapping[str, Any], frames: int, size: int) -> Clip:
        """The clip of a row of the plan."""
        name = str(row["clip"])
        people, _, swap = name.rpartition("/")[2].partition("-")
        one, _, other = str(row["pair"]).partition("_")
        method = str(row["method"]) + (f"-{swap}" if swap else "")
        return cls(
            name, _short(people), str(row["split"]), int(row["label"]), method, (_short(one), _short(other)),
            str(row["identity"]), str(row["compression"]), frames, size,
        )  # fmt: skip


def _short(people: str) -> str:
    return "_".join(f"{int(number):03d}" for number in people.split("_"))


def numbered(clips: Sequence[Clip]) -> None:
    """Raises `UserError` for more real clips than FaceForensics++'s names can tell apart."""
    real = sum(not clip.label for clip in clips)
    if real > MOST_NUMBERS:
        raise UserError(
            f"export: {real} real clips, and names as 012 and 012_013 number {MOST_NUMBERS} at most; use export=folders"
        )


class Origin(NamedTuple):
    """The set that files come from. name: its name; sums: sha256 of its `SHA256SUMS`"""

    name: str
    sums: str


def statement(frames: Sequence[Frame], origin: Origin) -> Statement:
    """What is to be said of a picture, or of a video of these frames.

    A picture's parents are the sha256 of the source's and of the driver's picture in the set; a video's are those of
    all its sources, one after the other as text, and of all its drivers.
    """
    row = frames[0]
    forged = bool(row["label"])
    licence, _, consent = row["origin"].partition("; consent: ")
    parents = [row["parents"] for row in frames]
    chain = [f"{item['name']}-{item['severity']}" for item in row["degradations"]]
    about = {"dataset": origin.name, "sums": origin.sums, "clip": row["clip"]}
    if len(frames) == 1:
        about["frame"] = row["frame"]
    return Statement(
        reenactor=row["method"],
        checkpoint=row["checkpoint"],
        parents=tuple(map(_digest, zip(*parents, strict=True))) if forged else (),
        consent=consent or row["origin"],
        licence=licence,
        synthetic=row["origin"] == ORIGIN,
        seed=row["seed"],
        round=row["round"] if forged and row["round"] >= 0 else None,
        edit={
            **about,
            **({"strength": round(row["strength"], 6), "region": row["region"]} if forged else {}),
            "degradations": chain,
            "compression": row["compression"],
        },
        payload=row["payload"],
    )


def _digest(hashes: Sequence[str]) -> str:
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


Write = Callable[[Path, Sequence[Frame], Origin], None]
"""Write one file of a clip, given all its frames in order: beside, then renamed."""


class File(NamedTuple):
    """path: from the root of the tree, with /"""

    path: str
    write: Write


def picture(number: int) -> Write:
    """Frame `number` as PNG: the very bytes of the set, and a signature."""

    def write(path: Path, frames: Sequence[Frame], origin: Origin) -> None:
        with complete(path) as unfinished:
            unfinished.write_bytes(frames[number]["image"]["bytes"])
            sign(unfinished, statement(frames[number : number + 1], origin))

    return write


def mask(number: int) -> Write:
    """The forged region of frame `number` as PNG, 0 to 255."""

    def write(path: Path, frames: Sequence[Frame], origin: Origin) -> None:
        write_beside(path, frames[number]["mask"]["bytes"])

    return write


def landmarks(number: int) -> Write:
    """Landmarks of frame `number` as .npy: float32 (81, 2), pixels (x, y), pixel centres at whole numbers."""

    def write(path: Path, frames: Sequence[Frame], origin: Origin) -> None:
        buffer = io.BytesIO()
        np.save(buffer, with_forehead(np.asarray(frames[number]["landmarks"], np.float32)) - np.float32(0.5))
        write_beside(path, buffer.getvalue())

    return write


_LEFT_TO_RIGHT = (77, 75, 76, 68, 69, 70, 71, 80, 72, 73, 79, 74, 78)
"""The 13 points of the forehead in the numbers of dlib's 81-point model, along the hairline from image left."""


def with_forehead(points: np.ndarray) -> np.ndarray:  # (68, 2) -> (81, 2)
    """dlib's 81 points, of which the last 13, on the forehead, are no measurement: they lie on half an ellipse from
    temple to temple, as high above the brows as the nose is long below them (the facial thirds of canon)."""
    left, right = points[0], points[16]
    brows, under_nose = points[[21, 22]].mean(0), points[33]
    middle, top = (left + right) / 2, 2 * brows - under_nose
    angle = np.linspace(np.pi, 0, len(_LEFT_TO_RIGHT) + 2)[1:-1, None]
    arc = middle + np.cos(angle) * (right - left) / 2 + np.sin(angle) * (top - middle)
    full = np.empty((81, 2), np.float32)
    full[:68], full[list(_LEFT_TO_RIGHT)] = points, arc
    return full


def video(compression: str) -> Write:
    """All frames as H.264 at the rate factor of c23 or c40, or raw: exactly the pixels of the set."""

    def write(path: Path, frames: Sequence[Frame], origin: Origin) -> None:
        with complete(path) as unfinished:
            _encode(unfinished, [decode(row["image"]["bytes"], row["clip"]) for row in frames], compression)
            sign(unfinished, statement(frames, origin))

    return write


def mask_video(path: Path, frames: Sequence[Frame], origin: Origin) -> None:
    """The forged region of all frames, the same value in all three channels, exactly."""
    masks = [decode(row["mask"]["bytes"], row["clip"]) for row in frames]
    with complete(path) as unfinished:
        _encode(unfinished, [np.repeat(image[..., None], 3, axis=-1) for image in masks], "raw")


def _encode(path: Path, images: Sequence[np.ndarray], compression: str) -> None:  # each uint8 (H, W, 3)
    factor = _FACTORS.get(compression)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream: Any = container.add_stream(
            "libx264rgb" if factor is None else "libx264",
            rate=round(LISTED_RATE),
            options={"crf": str(factor or 0), "preset": "medium", "x264-params": "log-level=error"},
        )
        stream.height, stream.width = images[0].shape[:2]
        even = stream.height % 2 == 0 and stream.width % 2 == 0
        stream.pix_fmt = "rgb24" if factor is None else "yuv420p" if even else "yuv444p"
        context = stream.codec_context
        context.thread_count = 1
        if factor is not None:
            context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1
        for image in images:
            frame: Any = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if factor is not None:
                frame = frame.reformat(format=stream.pix_fmt, dst_colorspace=int(Colorspace.ITU709), threads=1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
