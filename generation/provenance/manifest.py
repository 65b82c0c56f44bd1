"""The signed C2PA manifest: what a file says of how it was made.

C2PA technical specification 2.x, with the CAWG's assertion on training and data mining.
It proves who signed and that no byte was changed since; once it is stripped, as by any saving again, it proves nothing.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from generation.provenance.keys import ORGANISATION, known_key, laboratory_key, package
from generation.provenance.seal import holds, seal, sealed
from generation.records import UserError

SIGNABLE = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif",
    ".tif": "image/tiff", ".tiff": "image/tiff", ".avif": "image/avif", ".mp4": "video/mp4", ".m4v": "video/x-m4v",
    ".mov": "video/quicktime", ".avi": "video/avi",
}  # fmt: skip
"""Endings of the media that can carry a manifest."""

GENERATION = "org.vicious-cycle.generation"
TRAINING_MINING = "cawg.training-mining"
SOFT_BINDING = "c2pa.soft-binding"
WATERMARK = "org.vicious-cycle.watermark.2"
"""Algorithm of the soft binding: `watermark.py`; its value is the payload's four bytes, the highest first."""

_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_SETTINGS = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
}

_RUN_OUT = {"signingCredential.untrusted", "signingCredential.expired"}

_RUN_OUT = {"signingCredential.untrusted", "signingCredential.expired"}

State = Literal["trusted", "valid", "tampered", "absent"]


@dataclass(frozen=True)
class Statement:
    """What the manifest says of how a file was made: all that is known and nothing more.

    reenactor: family, as "warp"; "" where nothing is forged: a frame of footage, cut out and compressed again, or a
        rendered person as rendered
    checkpoint: sha256 of its weights, "" where a family has none
    parents: sha256 of the files it was made of, source before driver
    consent, licence: the source's; neither may be empty where somebody real is shown
    synthetic: nobody real is shown
    seed: of the generation, None where nothing was drawn
    round: of the cycle that the reenactor comes from, None where it comes from none
    edit: what was asked for, as JSON takes it: mode, strength, regions, expression
    payload: what the watermark in the picture says, where it was put in with one; None where it was not
    """

    reenactor: str
    checkpoint: str
    parents: tuple[str, ...]
    consent: str
    licence: str
    synthetic: bool
    seed: int | None = None
    round: int | None = None
    edit: Mapping[str, Any] = field(default_factory=dict)
    payload: int | None = None

    def __post_init__(self) -> None:
        if not self.reenactor and (self.checkpoint or self.round is not None):
            raise ValueError("what no reenactor has made has no checkpoint and is of no round")
        for name in ("consent", "licence"):
            if not self.synthetic and not getattr(self, name).strip():
                raise UserError(
                    f"origin.{name} is empty: media that show somebody real are signed with both only; state it"
                )

    @property
    def source_type(self) -> str:
        """The IPTC digital source type. Where somebody real is shown: a capture from life, or, forged, a composite with
        something synthetic in it; else media made wholly by an algorithm, trained or not (a renderer is not)."""
        if not self.synthetic:
            return _SOURCE_TYPE + ("compositeSynthetic" if self.reenactor else "digitalCapture")
        return _SOURCE_TYPE + ("trainedAlgorithmicMedia" if self.checkpoint else "algorithmicMedia")


def sign(path: Path, statement: Statement) -> None:
    """Put a signed manifest into a finished file, in place: written beside, then renamed.

    Signs offline, without a time stamp; a manifest that is already there gives way. Raises `UserError` for a container
    that cannot carry one, a file that is missing or not what its ending says, or a missing package.
    """
    kind = SIGNABLE.get(path.suffix.lower())
    if kind is None:
        raise UserError(
            f"{path}: a {path.suffix or 'file without ending'} cannot be signed; use one of {' '.join(SIGNABLE)}"
        )
    if not path.is_file():
        raise UserError(f"{path}: no such file; only a finished one can be signed")
    c2pa, key = package("c2pa"), laboratory_key()
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(b"es256", key.leaf.encode(), key.private.encode(), None))
    builder = c2pa.Builder(_definition(kind, statement), c2pa.Context.from_dict(_SETTINGS))
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(path, "rb") as source, open(beside, "w+b") as signed:
            builder.sign(signer, kind, source, signed)
        seal(beside)
        beside.chmod(path.stat().st_mode)
        os.replace(beside, path)
    except c2pa.C2paError as error:
        raise UserError(f"{path}: cannot be signed ({error}); is it a whole {kind}?") from error
    finally:
        beside.unlink(missing_ok=True)


def read(path: Path) -> tuple[State, str | None, dict[str, Any] | None]:
    """Whether a file's manifest holds, who signed it, and the `Statement` in it as JSON, where there is one.

    "trusted": the signature, every hash and the seal are right, and the certificate is of this laboratory's root;
    "valid": right, but signed by somebody else, or with a certificate that has run out; "tampered": the file or the
    manifest was changed since; "absent": no manifest.
    """
    c2pa, key = package("c2pa"), known_key()
    trust = {} if key is None else {"trust": {"user_anchors": key.root}}
    unread: State = "tampered" if sealed(path) else "absent"
    try:
        with open(path, "rb") as stream:
            reader = c2pa.Reader.try_create(stream, context=c2pa.Context.from_dict({**_SETTINGS, **trust}))
            if reader is None:
                return unread, None, None
            state, manifest = reader.get_validation_state(), reader.get_active_manifest() or {}
            faults = {fault["code"] for fault in json.loads(reader.json()).get("validation_status", ())}
    except c2pa.C2paError.NotSupported:
        return unread, None, None
    except (c2pa.C2paError, KeyError):
        return "tampered", None, None
    signed_by = manifest.get("signature_info", {})
    statements = [item.get("data") for item in manifest.get("assertions", []) if item.get("label") == GENERATION]
    states: dict[str, State] = {"Trusted": "trusted", "Valid": "valid"}
    told = states.get(state, "valid" if faults and faults <= _RUN_OUT else "tampered")
    return (
        "tampered" if (statements or told == "trusted") and not holds(path) else told,
        signed_by.get("common_name") or signed_by.get("issuer"),
        statements[0] if statements and isinstance(statements[0], dict) else None,
    )


def _definition(kind: str, statement: Statement) -> str:
    agent = {"name": ORGANISATION, "version": metadata.version("vicious-cycle")}
    actions: list[dict[str, Any]] = [{"action": "c2pa.created", "digitalSourceType": statement.source_type}]
    if statement.reenactor:
        actions.append({"action": "c2pa.edited", "description": "the expression of a face"})
    elif not statement.synthetic:
        actions.append({"action": "c2pa.edited", "description": "cut out and compressed; no face was changed"})
    terms = {"use": "constrained", "constraint_info": statement.licence} if statement.licence else {"use": "notAllowed"}
    uses = ("ai_inference", "ai_training", "ai_generative_training", "data_mining")
    assertions: dict[str, Any] = {
        "c2pa.actions.v2": {"actions": actions},
        TRAINING_MINING: {"entries": {f"cawg.{use}": terms for use in uses}},
        GENERATION: asdict(statement),
    }
    if statement.payload is not None:
        actions.append({"action": "c2pa.watermarked.bound"})
        value = base64.b64encode(statement.payload.to_bytes(4, "big")).decode()
        assertions[SOFT_BINDING] = {"alg": WATERMARK, "blocks": [{"scope": {}, "value": value}]}
    return json.dumps(
        {
            "claim_version": 2,
            "claim_generator_info": [agent],
            "format": kind,
            "assertions": [{"label": label, "data": data} for label, data in assertions.items()],
        },
        allow_nan=False,
    )
