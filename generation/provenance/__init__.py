"""Provenance: the two machine-readable marks of all media that leave the laboratory, and reading them back.

An invisible watermark goes into the pixels (`mark_image`, frame by frame, before the file is written), a signed C2PA
manifest into the finished file (`sign`). `verify` reads both.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from generation.faces.media import Media, MediaError
from generation.provenance.manifest import SIGNABLE, State, Statement, read, sign
from generation.provenance.watermark import FOUND, SMALLEST, Reading, mark_image, read_watermark, watermark_p
from generation.records import UserError

__all__ = [
    "FOUND", "MOST_FRAMES", "SIGNABLE", "SMALLEST",
    "Reading", "State", "Statement", "Verdict", "mark_image", "read_watermark", "sign", "verify", "watermark_p",
]  # fmt: skip

MOST_FRAMES = 250
"""Frames from a video's beginning in which the watermark is looked for."""


@dataclass(frozen=True)
class Verdict:
    """What a file says of where it comes from.

    state: of its manifest: "trusted", signed by this laboratory and unchanged; "valid", unchanged, signed by somebody
        else, or with a certificate that has run out; "tampered", changed since it was signed; "absent", no manifest,
        as after any saving again
    signed_by: the name in the certificate, None without one that can be read; more than a claim only in "trusted"
    statement: the fields of `Statement` as JSON, None where the manifest is not of this kind; only worth anything in
        "trusted", and in "valid" if one believes the signer
    watermark_p: p-value of "there is no watermark", frames pooled; 1 where no frame can be decoded
    found: whether it is below `FOUND`
    payload: what the watermark says, None where it is not found or cannot be read
    """

    state: State
    signed_by: str | None
    statement: dict[str, Any] | None
    watermark_p: float
    found: bool
    payload: int | None = None

    @property
    def stripped(self) -> bool:
        """Whether the watermark is there, and the manifest that came with it is not."""
        return self.found and self.state == "absent"


def verify(path: Path) -> Verdict:
    """Read both marks of a photo or video. Never makes a key and asks nobody.

    Raises `UserError` for a file that is missing or holds neither a manifest nor a picture, or for a missing package.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; name a photo or a video")
    state, signed_by, statement = read(path)
    try:
        mark = read_watermark(frame.image() for frame in islice(Media(path), MOST_FRAMES))
    except MediaError as error:
        if state == "absent":
            raise UserError(f"{path}: {error}") from error
        mark = Reading(1.0, None)
    return Verdict(state, signed_by, statement, mark.p, mark.p < FOUND, mark.payload)


def describe(verdict: Verdict) -> str:
    """One line: who signed it, whether it was changed since or stripped, and what its watermark says."""
    said: str = "stripped: no manifest, but the watermark" if verdict.stripped else verdict.state
    if verdict.signed_by is not None:
        said += f", signed by {verdict.signed_by}"
    if not verdict.found:
        return f"{said}, no watermark (p = {verdict.watermark_p:.1g})"
    payload = "unreadable" if verdict.payload is None else f"{verdict.payload:08x}"
    return f"{said}, watermark p = {verdict.watermark_p:.1e}, payload {payload}"
