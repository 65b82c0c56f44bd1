"""What is said of a file: `verdict.json` for machines, and one page that needs nothing but itself for people."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detection.calibration import SCALE
from detection.examine import NOT_CALIBRATED, Examination, Face
from detection.examine_basis import Ensemble
from detection.examine_pictures import explained, reliability_chart, timeline, tippett_chart
from detection.pages import page
from detection.pictures import number
from generation.records import write_beside

CONDITIONS = {
    "clear": "a clear photo",
    "compressed": "a strongly compressed photo",
    "video": "a video",
    "frames": "a few frames of video",
    "medium": "a photo with a face of medium size",
    "small": "a small face",
}
_DISAGREE = math.log(10)
_MOST_PICTURES = 3


def told(face: Face) -> str:
    """The verdict on one face in a sentence."""
    if face.llr is None or face.low is None or face.high is None:
        return f"No verdict: {NOT_CALIBRATED}."
    odds = math.exp(abs(face.llr))
    which, other = ("forged", "real") if face.llr > 0 else ("real", "forged")
    words = f"what the detectors saw is {number(odds, 1)} times as probable if the face is {which} as if it is {other}"
    interval = f"LLR {number(face.llr, 2)}, 95 % interval {number(face.low, 2)} to {number(face.high, 2)}"
    if face.abstains:
        return f"Too close to call: {words} ({interval})."
    return f"{face.scale[0].upper()}{face.scale[1:]}: {words} ({interval})."


def face_json(face: Face, ensemble: Ensemble) -> dict[str, Any]:
    """A face in `verdict.json`; LLRs are natural logarithms, boxes pixels of the frame it was first seen in."""
    about = ensemble.basis.calibration.about
    return {
        "llr": face.llr,
        "low": face.low,
        "high": face.high,
        "scale": face.scale,
        "abstains": face.abstains,
        "calibrated_for": {
            "this_file": not face.strange,
            "why_not": face.strange,
            "condition": face.condition,
            "set": about["faces"],
            "people": about["people"],
            "least": ensemble.basis.calibration.low,
            "largest": ensemble.basis.calibration.high,
        },
        "detectors": {name: {"score": score, "llr": llr} for name, (score, llr) in face.detectors.items()},
        "disagreement": face.disagreement,
        "spans": [{"start": start, "end": end, "llr": llr} for start, end, llr in face.spans],
        "looks": face.looks,
        "box": list(face.box),
        "side": face.side,
        "seconds": [float(face.seconds[0]), float(face.seconds[-1])],
    }


def file_json(found: Examination, ensemble: Ensemble) -> dict[str, Any]:
    """A file in `verdict.json`."""
    seen = found.seen
    return {
        "path": found.path,
        "kind": seen.kind,
        "width": seen.width,
        "height": seen.height,
        "frames": seen.frames,
        "looked": seen.looked,
        "sampling": seen.sampling,
        "damage": seen.damage,
        "faces": [face_json(face, ensemble) for face in found.faces],
        "provenance": found.provenance,
        "container": found.container,
    }


def file_page(found: Examination, ensemble: Ensemble, most: int = 12) -> dict[str, Any]:
    """A file on the page, pictures and all, as JSON takes it; pictures of at most `most` faces, those that speak most
    for a forgery."""
    order = sorted(found.faces, key=lambda face: -(face.llr if face.llr is not None else -math.inf))
    shown = {face.number for face in order[:most]}
    limits = ensemble.basis.calibration.low, ensemble.basis.calibration.high
    return {
        "name": Path(found.path).name,
        "summary": summary(found),
        "faces": [
            {
                "number": face.number + 1,
                "told": told(face),
                "strange": face.strange,
                "condition": CONDITIONS[face.condition],
                "disagree": disagreement(face),
                "bar": verdict_bar(face, *limits),
                "timeline": timeline(face) if found.seen.kind == "video" and face.looks > 2 else "",
                "pictures": [
                    {"title": f"at {worst.look.seconds:.2f} s" if found.seen.kind == "video" else "", "parts": parts}
                    for worst in face.worst[:_MOST_PICTURES]
                    for parts in [_addresses(explained(worst, ensemble))]
                ]
                if face.number in shown
                else [],
            }
            for face in found.faces
        ],
        "marks": marks_summary(found.provenance),
        "provenance": provenance_words(found.provenance),
    }


def verdict_bar(face: Face, low: float, high: float) -> dict[str, float] | None:
    """Where an LLR, its interval and 0 lie between the least and the largest LLR that the calibration supports, those
    being 0 and 100. None without a verdict, and for a calibration that supports only one side."""
    if face.llr is None or face.low is None or face.high is None or not low < 0 < high:
        return None
    places = {"llr": face.llr, "low": face.low, "high": face.high, "zero": 0.0}
    return {name: 100 * (llr - low) / (high - low) for name, llr in places.items()}


def _addresses(parts: Mapping[str, bytes]) -> dict[str, str]:
    return {title: f"data:image/jpeg;base64,{base64.b64encode(content).decode()}" for title, content in parts.items()}


def summary(found: Examination) -> str:
    """A file in one line."""
    if not found.faces:
        return "no face found, so there is no verdict on its pixels"
    told_of = [face for face in found.faces if face.llr is not None]
    count = f"{len(found.faces)} face{'s' * (len(found.faces) != 1)}"
    if not told_of:
        return f"{count}: {NOT_CALIBRATED}"
    most = max(told_of, key=lambda face: face.llr or 0.0)
    rest = f", {len(found.faces) - len(told_of)} of them {NOT_CALIBRATED}" if len(told_of) < len(found.faces) else ""
    which = "" if len(found.faces) == 1 else ", most of face " + str(most.number + 1)
    verdict = "too close to call" if most.abstains else most.scale
    return f"{count}{rest}: {verdict} (LLR {number(most.llr, 2)}{which})"


def disagreement(face: Face) -> str:
    """In words, where the detectors contradict each other; "" where they do not."""
    alone = {name: llr for name, (_, llr) in face.detectors.items() if llr is not None}
    if face.disagreement is None or face.disagreement < _DISAGREE or min(alone.values()) * max(alone.values()) >= 0:
        return ""
    low, high = min(alone, key=lambda name: alone[name]), max(alone, key=lambda name: alone[name])
    return (
        f"The detectors disagree: alone, {high} would say LLR {number(alone[high], 2)} and {low} "
        f"{number(alone[low], 2)}."
    )


def marks_summary(verdict: Mapping[str, Any]) -> str:
    """What the marks of a file say, in a few words for a table of files."""
    if "error" in verdict:
        return "could not be read"
    manifests = {
        "trusted": "C2PA, signed by this laboratory",
        "valid": f"C2PA, signed by {verdict.get('signed_by')}",
        "tampered": "C2PA that does not hold",
        "absent": "",
    }
    state = str(verdict.get("state", "absent"))
    watermark = "watermark: made with a reenactor of this project" if verdict.get("found") else ""
    return "; ".join(filter(None, (manifests.get(state, f"C2PA: {state}"), watermark))) or "none"


def provenance_words(verdict: Mapping[str, Any]) -> list[str]:
    """What the marks of a file say, in sentences."""
    if "error" in verdict:
        return [f"The marks could not be read: {verdict['error']}"]
    if not verdict:
        return []
    state, who = verdict.get("state"), verdict.get("signed_by")
    words = {
        "trusted": f"A C2PA manifest, signed by this laboratory ({who}); the file is unchanged since.",
        "valid": f"A C2PA manifest that names {who} as its signer; the file is unchanged since. Nobody vouches here "
        "for who that is.",
        "tampered": "A C2PA manifest that does not hold: the file, or the manifest, was changed after it was signed.",
        "absent": "No C2PA manifest.",
    }
    lost = state == "absent" and verdict.get("found")
    said = [] if lost else [words.get(str(state), f"C2PA: {state}.")]
    statement = verdict.get("statement") or {}
    if statement.get("reenactor"):
        said.append(f"It says that the expression was made by {statement['reenactor']}, a reenactor: AI generated.")
    p = verdict.get("watermark_p")
    if verdict.get("found"):
        stripped = " There is no C2PA manifest any more: it was lost or removed when the file was saved again."
        said.append(
            f"The watermark of Vicious Cycle is in the pixels (p = {p:.1e}): made with a reenactor of this project."
            + (stripped if lost else "")
        )
    elif p is not None:
        said.append(f"No watermark of Vicious Cycle (p = {p:.2g}); that says nothing about other makers.")
    return said


def render(
    files: Sequence[Mapping[str, Any]],
    failed: Sequence[Mapping[str, str]],
    ensemble: Ensemble,
    when: str,
    commit: str,
) -> str:
    """The page as text. files: `file_json` with `file_page` as its `page`."""
    about = ensemble.basis.calibration.about
    return page(
        "examine.html.j2",
        files=files,
        failed=failed,
        when=when,
        commit=commit,
        names=ensemble.names,
        ensemble=ensemble.about,
        about=about,
        calibration=ensemble.basis.calibration,
        conditions=CONDITIONS,
        scale=_scale(),
        tippett=tippett_chart(about["tippett"]),
        reliability=reliability_chart(about["reliability"]),
    )


def _scale() -> list[tuple[str, str]]:
    found, low = [], 1.0
    for high, term in SCALE:
        upto = "and more" if math.isinf(high) else f"to {high:,.0f}"
        found.append((f"{low:,.0f} {upto}", term))
        low = high
    return found


def write_page(path: Path, text: str) -> None:
    """Write the page beside `path` and rename it."""
    write_beside(path, text.encode())
