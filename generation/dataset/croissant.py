"""`croissant.json`: what a set is, file by file and column by column, for machines.

MLCommons Croissant 1.1 with the vocabulary on responsible AI (RAI) 1.0. Paths are relative to the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import datasets

from generation.dataset.features import FEATURES, PLAN

PARQUET = "application/x-parquet"
COLUMNS = {
    "image": "the frame, as PNG; the watermark is in its pixels",
    "mask": "forged region, 0 to 255, as PNG; null for real frames",
    "clip": "the clip: a number for real ones, method/source_driver for forgeries",
    "frame": "number of the frame in its clip",
    "identity": "whose face it is; nobody is in two splits",
    "scene": "of the person: number of a synthetic one, clip of the footage",
    "expression": "the 52 facial actions of ARKit, 0 to 1: for forgeries what was asked for",
    "pose": "of the head: rotation in radians, translation and scale of the crop",
    "landmarks": "68 points (x, y) in pixels, pixel centres at integer + 0.5: for forgeries where they should lie",
    "split": "train, validation or test",
    "label": "0 real, 1 forged",
    "method": "name of the reenactor, empty for real frames",
    "round": "of the cycle that the reenactor comes from, -1 for none",
    "source": "whose face it is: clip and frame",
    "driver": "whose expression it has: clip and frame",
    "seed": "of the clip's row of the plan",
    "sha256": "of the bytes of the image",
    "origin": "licence of the face and consent of the person",
    "row": "of the plan",
    "pair": "the two real clips whose expressions are swapped",
    "given": "52 actions and 6 of the pose, of the source frame",
    "wanted": "52 actions and 6 of the pose, that were asked for; null for real frames",
    "changed": "share of the picture that the mask covers",
    "strength": "of the swap: 1 is the driver's expression; null for real frames",
    "region": "of the expression that was taken: all, or eyes, brows, mouth joined by +",
    "motion": "what a synthetic person does in the clip",
    "skin": "melanin, 0 to 1; null where the plan left it alone",
    "age": "from the youngest adult, 0, to the oldest, 1; null where the plan left it alone",
    "yaw": "of the head, degrees; null where the plan left it alone",
    "light": "azimuth of the key light, degrees; null where the plan left it alone",
    "degradations": "what was done to the clip, in order, with severities from 1 to 5",
    "compression": "after that: raw, c23 or c40",
    "checkpoint": "sha256 of the reenactor's weights",
    "parents": "sha256 of the source's and of the driver's image in this set",
    "payload": "what the watermark says, 32 bits",
    "shard": "number of the file that holds the clip",
    "person": "number of a synthetic person, else -1",
    "take": "clip of the footage, else empty",
    "degradation": "names with severities, joined by +; none for none",
}
"""Of the frames and of the plan. Frames also have `flow`, bytes, for which Croissant has no type."""

_TYPES = {
    "string": "sc:Text", "int8": "cr:Int8", "int32": "cr:Int32", "int64": "cr:Int64", "float32": "cr:Float32",
}  # fmt: skip
_LOCAL = (
    "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileObject",
    "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5",
    "parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator",
    "source", "subField", "transform",
)  # fmt: skip
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "name": {"@container": "@language"},
    "description": {"@container": "@language"},
    **{name: f"cr:{name}" for name in _LOCAL},
}


class Held(NamedTuple):
    """A file of the set. sha256 and size in bytes are the file's own"""

    name: str
    sha256: str
    size: int


def croissant(
    about: Mapping[str, Any], rai: Mapping[str, str], plan: Held, shards: list[Held], columns: list[str]
) -> dict[str, Any]:
    """about: name, description, licence, version and the like, in the words of schema.org; rai: terms of RAI without
    their prefix; columns: of the plan, in order, with types by `FEATURES`."""
    frames = {"@id": "frames-files"}
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"],
        **about,
        **{f"rai:{name}": text for name, text in rai.items()},
        "distribution": [
            *(_file(held) for held in (plan, *shards)),
            {
                "@type": "cr:FileSet",
                "@id": frames["@id"],
                "name": frames["@id"],
                "description": "one row a frame; whole pairs of clips with all their forgeries are in one file",
                "encodingFormat": PARQUET,
                "includes": "shard-*.parquet",
            },
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "clips",
                "name": "clips",
                "description": "the plan: one row a clip, drawn before anything was made",
                "key": {"@id": "clips/clip"},
                "field": [
                    field
                    for name in columns
                    for field in _fields("clips", name, _OF_PLAN.get(name) or FEATURES[name], {"fileObject": plan.name})
                ],
            },
            {
                "@type": "cr:RecordSet",
                "@id": "frames",
                "name": "frames",
                "description": "one row a frame, with the truth about it",
                "key": [{"@id": "frames/clip"}, {"@id": "frames/frame"}],
                "field": [
                    field
                    for name, kind in FEATURES.items()
                    if name != "flow"
                    for field in _fields("frames", name, kind, {"fileSet": frames["@id"]})
                ],
            },
        ],
    }


_text, _whole = datasets.Value("string"), datasets.Value("int64")
_OF_PLAN: dict[str, Any] = {
    "source": _text, "driver": _text, "scene": _whole, "label": _whole, "round": _whole, "shard": _whole,
    "person": _whole, "take": _text, "degradation": _text,
}  # fmt: skip
"""Types of the plan where frames have another one, or none."""


def _file(held: Held) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": held.name,
        "name": held.name,
        "description": "the plan, one row a clip" if held.name == PLAN else "frames, one row each",
        "contentUrl": held.name,
        "contentSize": f"{held.size} B",
        "encodingFormat": PARQUET,
        "sha256": held.sha256,
    }


def _fields(record_set: str, name: str, kind: Any, where: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """One field of a column, or one for each part of it."""
    if isinstance(kind, dict):
        for part, inner in kind.items():
            yield _field(record_set, name, inner, where, part)
    elif isinstance(kind, datasets.List) and isinstance(kind.feature, dict):
        for part, inner in kind.feature.items():
            yield _field(record_set, name, datasets.List(inner), where, part)
    else:
        yield _field(record_set, name, kind, where, "bytes" if isinstance(kind, datasets.Image) else None)


def _field(record_set: str, name: str, kind: Any, where: Mapping[str, str], part: str | None) -> dict[str, Any]:
    """part: of the column's value"""
    shape = []
    while isinstance(kind, datasets.List):
        shape.append(kind.length)
        kind = kind.feature
    ((holder, file),) = where.items()
    own = f"{record_set}/{name}" + (f"/{part}" if part not in (None, "bytes") else "")
    return {
        "@type": "cr:Field",
        "@id": own,
        "name": own.replace("/", "_").removeprefix(f"{record_set}_"),
        "description": COLUMNS[name] + (f": {part}" if part not in (None, "bytes") else ""),
        "dataType": "sc:ImageObject" if isinstance(kind, datasets.Image) else _TYPES[kind.dtype],
        **({"isArray": True, "arrayShape": ",".join(map(str, shape))} if shape else {}),
        "source": {
            holder: {"@id": file},
            "extract": {"column": name},
            **({"transform": {"jsonPath": part}} if part is not None else {}),
        },
    }
