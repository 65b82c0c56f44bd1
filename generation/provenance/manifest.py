"""The signed C2PA manifest: what a file says of how it was made.

C2PA technical specification 2.x, with the CAWG's assertion on training and data mining.
It proves who signed and that no byte was changed since; once it is stripped, as by any saving again, it proves nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from generation.provenance.keys import ORGANISATION, known_key, laboratory_key, package
from generation.records import UserError

SIGNABLE = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif",
    ".tif": "image/tiff", ".tiff": "image/tiff", ".avif": "image/avif", ".mp4": "video/mp4", ".m4v": "video/x-m4v",
    ".mov": "video/quicktime", ".avi": "video/avi",
}  # fmt: skip
"""Endings of the media that can carry a manifest."""

GENERATION = "org.vicious-cycle.generation"
TRAINING_MINING = "cawg.training-mining"
_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_SETTINGS = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
}

State = Literal["trusted", "valid", "tampered", "absent"]


@dataclass(frozen=True)
class Statement:
    """What the manifest says of how a file was made: all that is known and nothing more.

    reenactor: family, as "warp"
    checkpoint: sha256 of its weights, "" where a family has none
    parents: sha256 of the files it was made of, source before driver
    consent, licence: the source's; neither may be empty where somebody real is shown
    synthetic: nobody real is shown
    seed: of the generation, None where nothing was drawn
    round: of the cycle that the reenactor comes from, None where it comes from none
    edit: what was asked for, as JSON takes it: mode, strength, regions, expression
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

    def __post_init__(self) -> None:
        for name in ("consent", "licence"):
            if not self.synthetic and not getattr(self, name).strip():
                raise UserError(
                    f"origin.{name} is empty: media that show somebody real are signed with both only; state it"
                )

    @property
    def source_type(self) -> str:
        """The IPTC digital source type: a composite with something synthetic in it where somebody real is shown, else
        media made wholly by an algorithm, trained or not."""
        if not self.synthetic:
            return f"{_SOURCE_TYPE}compositeSynthetic"
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
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(b"es256", key.chain.encode(), key.private.encode(), None))
    builder = c2pa.Builder(_definition(path, kind, statement), c2pa.Context.from_dict(_SETTINGS))
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(path, "rb") as source, open(beside, "w+b") as signed:
            builder.sign(signer, kind, source, signed)
        beside.chmod(path.stat().st_mode)
        os.replace(beside, path)
    except c2pa.C2paError as error:
        raise UserError(f"{path}: cannot be signed ({error}); is it a whole {kind}?") from error
    finally:
        beside.unlink(missing_ok=True)


def read(path: Path) -> tuple[State, str | None, dict[str, Any] | None]:
    """Whether a file's manifest holds, who signed it, and the `Statement` in it as JSON, where there is one.

    "trusted": the signature and every hash are right, and the certificate is of this laboratory's root; "valid":
    right, but signed by somebody else; "tampered": the file or the manifest was changed since; "absent": no manifest.
    """
    c2pa, key = package("c2pa"), known_key()
    trust = {} if key is None else {"trust": {"user_anchors": key.root}}
    try:
        with open(path, "rb") as stream:
            reader = c2pa.Reader.try_create(stream, context=c2pa.Context.from_dict({**_SETTINGS, **trust}))
            if reader is None:
                return "absent", None, None
            state, manifest = reader.get_validation_state(), reader.get_active_manifest() or {}
    except c2pa.C2paError.NotSupported:
        return "absent", None, None
    except c2pa.C2paError:
        return "tampered", None, None
    signed_by = manifest.get("signature_info", {})
    statements = [item.get("data") for item in manifest.get("assertions", []) if item.get("label") == GENERATION]
    states: dict[str, State] = {"Trusted": "trusted", "Valid": "valid"}
    return (
        states.get(state, "tampered"),
        signed_by.get("common_name") or signed_by.get("issuer"),
        statements[0] if statements and isinstance(statements[0], dict) else None,
    )


def _definition(path: Path, kind: str, statement: Statement) -> str:
    agent = {"name": ORGANISATION, "version": metadata.version("vicious-cycle")}
    terms = {"use": "constrained", "constraint_info": statement.licence} if statement.licence else {"use": "notAllowed"}
    uses = ("ai_inference", "ai_training", "ai_generative_training", "data_mining")
    assertions = {
        "c2pa.actions.v2": {
            "actions": [
                {"action": "c2pa.created", "digitalSourceType": statement.source_type, "softwareAgent": agent},
                {"action": "c2pa.edited", "description": "the expression of a face", "softwareAgent": agent},
            ]
        },
        TRAINING_MINING: {"entries": {f"cawg.{use}": terms for use in uses}},
        GENERATION: asdict(statement),
    }
    return json.dumps(
        {
            "claim_version": 2,
            "claim_generator_info": [agent],
            "title": path.name,
            "format": kind,
            "assertions": [{"label": label, "data": data} for label, data in assertions.items()],
        },
        allow_nan=False,
    )
