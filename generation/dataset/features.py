"""One frame of a controlled data set: a row of records, and everything that was planned and done to it.

plan.parquet           one row a clip, made first (`plan.py`)
shard-NNNNN.parquet    one row a frame (`FEATURES`), whole pairs of clips with all their forgeries
dataset_info.json      as for all records; `kind` is what was asked for
contact_sheet.png      signed: its manifest names the hash of SHA256SUMS, so the set is signed as one
croissant.json, DATASHEET.md, README.md
SHA256SUMS             of everything above but the contact sheet
"""

from __future__ import annotations

import datasets

from generation.motion import EXPRESSION_SIZE, POSE
from generation.records import row_features

PLAN, SUMS, SHEET = "plan.parquet", "SHA256SUMS", "contact_sheet.png"
CROISSANT, DATASHEET, CARD = "croissant.json", "DATASHEET.md", "README.md"

_motion = datasets.List(datasets.Value("float32"), length=EXPRESSION_SIZE + len(POSE))

FEATURES = datasets.Features(
    {
        **row_features(),
        "row": datasets.Value("int64"),
        "pair": datasets.Value("string"),
        "given": _motion,
        "wanted": _motion,
        "changed": datasets.Value("float32"),
        "strength": datasets.Value("float32"),
        "region": datasets.Value("string"),
        "motion": datasets.Value("string"),
        "skin": datasets.Value("float32"),
        "age": datasets.Value("float32"),
        "yaw": datasets.Value("float32"),
        "light": datasets.Value("float32"),
        "degradations": datasets.List({"name": datasets.Value("string"), "severity": datasets.Value("int8")}),
        "compression": datasets.Value("string"),
        "checkpoint": datasets.Value("string"),
        "parents": datasets.List(datasets.Value("string")),
        "payload": datasets.Value("int64"),
        "flow": datasets.Value("binary"),
    }
)
"""`records.row_features()` and

row, pair: the clip's row in the plan; the two real clips whose expressions are swapped, as "00012_00013"
given, wanted: Motion of the source frame and Motion that was asked for; `wanted` is null for real rows
changed: share of the picture that the mask covers; 0 for real rows, and where two expressions were so alike that the
    reenactor left the source as it was
strength, region: of the swap, null and "" for real rows; region is `all` or parts joined by +, as "eyes+mouth"
motion: what the person does in the clip, see `trajectories.KINDS`; "" for footage
skin, age, yaw, light: factors of the plan, see `plan.Factors`; null where the plan left them alone
degradations, compression: what was done to the clip, in this order: degradations with their severities, then the
    codec, `raw`, `c23` or `c40`
checkpoint: sha256 of the reenactor's weights, "" for real rows and families without any
parents: sha256 of the images of the source's and the driver's rows in this set; empty for real rows
payload: of the watermark in the pixels, in [0, 2**32)
flow: null, or the reenactor's flow (H, W, 2) as float16 in C order, pixels (x, y), where in the source a pixel is from
"""
