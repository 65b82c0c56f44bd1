"""Making sets: the same bytes whoever makes them, exact truth in every row, and nothing that gives the class away."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from detection.degradations import DEGRADATIONS, degraded
from generation.dataset import folder as folders
from generation.dataset import plan as planning
from generation.dataset.checking import check
from generation.dataset.design import Factors, Maker, PlanConfig
from generation.dataset.features import SHEET, SUMS
from generation.dataset.making import Spread, Studio, checkpoint_hashes, kind_of, make_shards, payload_of
from generation.dataset.plan import make_plan
from generation.dataset.real import Synthetic, takes_of
from generation.dataset.sums import write_sums
from generation.faces.people import FacesConfig
from generation.faces.render import render_records
from generation.motion import ACTIONS
from generation.provenance import verify
from generation.records import Faces, UserError, load, read, write
from scripts.door import configure
from scripts.make_dataset import MakeConfig, planned
from scripts.on_ray import on_ray
from tests.test_plan import PRESETS, preset

ROOT = Path(__file__).resolve().parent.parent
CONFIG = PlanConfig(
    "tiny", clips=24, people=8, frames=2, size=64,
    reenactors={"warp": Maker("warp_64"), "landmark_warp": Maker()},
    factors=Factors(
        motion=("speech", "emotion"), yaw=(-15.0, 15.0), light=(-50.0, 50.0), strength=(0.5, 1.0),
        region=("all", "mouth"), degradation=("none", "noise-3+jpeg-2"), compression=("raw", "c23"),
    ),
    train=2, validation=1, test=1, flow=True,
)  # fmt: skip
SHARD = 12
"""Frames of a shard of one pair: four shards."""


def make(
    out: Path,
    config: PlanConfig = CONFIG,
    *,
    workers: int = 1,
    rank: int = 0,
    world: int = 1,
    said: list[str] | None = None,
    spread: Spread | None = None,
) -> bool:
    """As the script does; whether the set is finished."""
    hashes = checkpoint_hashes(config)
    plan = make_plan(config, DEGRADATIONS, takes_of(config))
    kind = kind_of(config, hashes, plan)
    say = (said if said is not None else []).append
    with folders.held(out, rank, world):
        if not folders.begin(out, plan, kind, say):
            return True
        make_shards(
            out, plan, config, hashes, degraded, workers=workers, rank=rank, world=world, say=say, spread=spread
        )
        return folders.complete(out, plan, kind, config)


@contextmanager
def in_small_shards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "SHARD_FRAMES", SHARD)
        yield


@pytest.fixture(scope="module", autouse=True)
def small_shards() -> Iterator[None]:
    with in_small_shards():
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiny")
    assert make(out)
    return out


@pytest.fixture(scope="module")
def rows(tiny: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted(tiny.glob("shard-*.parquet"))], ignore_index=True)


def pixels(row: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))).astype(int)


def sums(folder: Path) -> str:
    return (folder / SUMS).read_text()


# Who makes it does not matter


@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_processes_makes_the_same_bytes(workers: int, tiny: Path, tmp_path: Path) -> None:
    assert make(tmp_path, workers=workers) and sums(tmp_path) == sums(tiny)


def test_ranks_share_a_folder_and_the_last_one_finishes_it(tiny: Path, tmp_path: Path) -> None:
    assert not make(tmp_path, rank=1, world=3) and not make(tmp_path, rank=0, world=3)
    assert not (tmp_path / SUMS).exists()
    assert make(tmp_path, rank=2, world=3) and sums(tmp_path) == sums(tiny)


def test_ray_does_again_what_a_killed_worker_was_at(tiny: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="the package ray is missing: pip install 'vicious-cycle[ray]'")
    killed: list[int] = []

    def kill_one() -> None:
        while not killed and not (tmp_path / SUMS).exists():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    if not killed and path.read_bytes().startswith(b"ray::Map"):
                        os.kill(int(path.parent.name), signal.SIGKILL)
                        killed.append(int(path.parent.name))
            time.sleep(0.02)

    thread = threading.Thread(target=kill_one)
    thread.start()
    try:
        assert make(tmp_path, spread=partial(on_ray, address="local", workers=2))
    finally:
        (tmp_path / SUMS).touch()
        thread.join()
    assert killed and sums(tmp_path) == sums(tiny) and not ray.is_initialized()


def test_damaged_shards_are_named_and_made_again(tiny: Path, tmp_path: Path) -> None:
    make(tmp_path, rank=0, world=2)
    shard = tmp_path / "shard-00002.parquet"
    shard.write_bytes(shard.read_bytes()[:-7])
    said: list[str] = []
    assert make(tmp_path, said=said) and sums(tmp_path) == sums(tiny)
    assert len(said) == 1 and said[0].startswith(f"{shard}: damaged")
    (tmp_path / "shard-00001.parquet").write_bytes(b"also after it was finished")
    said.clear()
    assert make(tmp_path, said=said) and sums(tmp_path) == sums(tiny) and "shard-00001" in said[0]


def test_a_finished_set_is_left_alone(tiny: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny.glob("shard-*")}
    assert make(tiny) and before == {path: path.stat().st_mtime_ns for path in tiny.glob("shard-*")}
    assert not list(tiny.glob(".shard*")) and not list(tiny.glob(".lock*"))


OPTIONS = [
    "dataset=robustness_small", "dataset.clips=24", "dataset.people=8", "dataset.frames=2", "dataset.size=64",
    "dataset.reenactors.warp.checkpoint=warp_64", "~dataset.reenactors.autoencoder",
    "~dataset.reenactors.flow_matching", "dataset.train=2", "dataset.validation=1", "dataset.test=1",
]  # fmt: skip


def settings(*more: str) -> Any:
    """As the script reads the command line."""
    with initialize_config_module("conf", version_base="1.3"):
        plain: Any = OmegaConf.to_container(compose("make_dataset", [*OPTIONS, *more]), resolve=True)
    plain["source"] = plain.pop("from")
    return configure(MakeConfig, plain)


def start(*more: str, before: str = "pass") -> subprocess.Popen[str]:
    """The command in a process of its own, which does `before` first."""
    code = f"{before}; import generation.dataset.plan as planning; planning.SHARD_FRAMES = {SHARD}; "
    code += "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    script = str(ROOT / "scripts" / "make_dataset.py")
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.argv = sys.argv[1:]; {code}", script, *more, *OPTIONS],
        cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_a_full_disk_ends_in_one_line_and_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """The disk is full at 40 kB a file: a shard does not fit, the plan does."""
    place = (f"hydra.run.dir={tmp_path / 'run'}", f"out={tmp_path / 'set'}")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000))"
    full = start(*place, "workers=1", before=limit)
    said = full.communicate()[1]
    assert full.returncode == 2, said
    assert said.strip().splitlines()[-1].startswith("error: no space left on the disk")
    assert (tmp_path / "set" / "plan.parquet").is_file()
    assert not list((tmp_path / "set").glob("shard-*")) and not list((tmp_path / "set").glob("..shard*"))
    killed = start(*place, "workers=2")
    while not list((tmp_path / "set").glob("shard-*")) and killed.poll() is None:
        time.sleep(0.02)
    killed.kill()
    killed.communicate()
    again = start(*place, "workers=1")
    said = again.communicate()[1]
    assert again.returncode == 0, said
    assert make(tmp_path / "whole", settings().dataset) and sums(tmp_path / "whole") == sums(tmp_path / "set")


def test_jobs_of_an_array_share_a_folder(tmp_path: Path) -> None:
    """As under SLURM, by submitit's launcher for one machine."""
    pytest.importorskip("submitit", reason="the package submitit is missing: pip install 'vicious-cycle[slurm]'")
    array = ("-m", "hydra/launcher=submitit_local", "rank=0,1", "world=2", "workers=1")
    done = start(*array, f"hydra.sweep.dir={tmp_path}", f"out={tmp_path / 'set'}")
    said = done.communicate()[1]
    assert done.returncode == 0, said
    summaries = [json.loads((tmp_path / str(rank) / "summary.json").read_bytes()) for rank in (0, 1)]
    assert [summary["config"]["rank"] for summary in summaries] == [0, 1]
    assert load(tmp_path / "set").size == 64 and all(f.state == "ok" for f in check(tmp_path / "set"))


# What is in it


def test_everybodys_tools_read_it(tiny: Path) -> None:
    loaded = datasets.load_dataset("parquet", data_files=str(tiny / "*.parquet").replace("*", "shard-*"), split="train")
    assert len(loaded) == 48 and isinstance(loaded[0]["image"], Image.Image)
    faces = load(tiny)
    assert len(faces) == 48 and faces.size == 64 and len(list(read(tiny, "test"))) == 12


def test_truth_of_every_forgery(rows: pd.DataFrame) -> None:
    real = rows[rows["label"] == 0].set_index(["clip", "frame"])
    mouth = np.array([name.startswith(("mouth", "jaw", "cheek", "nose", "tongue")) for name in ACTIONS])
    for _, row in rows[rows["label"] == 1].iterrows():
        source = real.loc[(row["source"]["clip"], row["source"]["frame"])]
        driver = real.loc[(row["driver"]["clip"], row["driver"]["frame"])]
        assert list(row["parents"]) == [source["sha256"], driver["sha256"]]
        given, wanted = row["given"], row["wanted"]
        np.testing.assert_array_equal(given, np.r_[source["expression"], source["pose"]])
        np.testing.assert_array_equal(wanted, np.r_[row["expression"], row["pose"]])
        np.testing.assert_array_equal(row["pose"], source["pose"])
        moved = np.ones(52, bool) if row["region"] == "all" else mouth
        asked = source["expression"] + row["strength"] * (driver["expression"] - source["expression"])
        np.testing.assert_allclose(row["expression"], np.where(moved, asked, source["expression"]), atol=1e-6)
        mask = np.asarray(Image.open(io.BytesIO(row["mask"]["bytes"])))
        assert row["changed"] == pytest.approx(mask.mean() / 255)
        flow = np.frombuffer(row["flow"], np.float16).reshape(64, 64, 2)
        assert np.isfinite(flow).all() and (row["method"] != "warp" or np.abs(flow[mask > 128]).max() > 0.1)
    assert real["wanted"].isna().all() and (real["changed"] == 0).all()


def test_reals_and_forgeries_differ_in_the_mask_alone(rows: pd.DataFrame) -> None:
    """But for two watermarks of 40 dB, which say something else in each; the draws of noise are the same."""
    real = rows[rows["label"] == 0].set_index(["clip", "frame"])
    for _, row in rows[rows["label"] == 1].iterrows():
        outside = np.asarray(Image.open(io.BytesIO(row["mask"]["bytes"]))) == 0
        if row["compression"] == "raw":
            apart = pixels(row) - pixels(real.loc[(row["source"]["clip"], row["source"]["frame"])])
            assert np.sqrt((apart[outside] ** 2).mean()) < 5


def test_factors_are_what_was_planned(rows: pd.DataFrame) -> None:
    real = rows[rows["label"] == 0]
    yaw = np.degrees(np.stack(real["pose"].to_list())[:, 1])
    assert (np.sign(yaw) == np.sign(real["yaw"])).all() and np.abs(yaw - real["yaw"]).max() < 10
    chains = {tuple((item["name"], item["severity"]) for item in chain) for chain in rows["degradations"]}
    assert chains == {(), (("noise", 3), ("jpeg", 2))}


@pytest.mark.parametrize(("factor", "levels"), [("skin", (0.05, 0.9)), ("age", (0.0, 1.0)), ("light", (-70.0, 70.0))])
def test_one_factor_changes_one_thing(factor: str, levels: tuple[float, float]) -> None:
    """The same person doing the same: darker, older, lit from the other side."""
    config = replace(
        CONFIG, design="factorial", clips=None, people=2, train=1, validation=0, test=0,
        factors=Factors(**{"motion": ("speech",), factor: levels}),
    )  # fmt: skip
    plan = make_plan(config, DEGRADATIONS)
    real = plan[(plan["label"] == 0) & (plan["person"] == 0)].to_dict("records")
    one, other = (Synthetic(config).clip(row) for row in real)
    np.testing.assert_array_equal(one.expression, other.expression)
    apart = one.image.astype(float) - other.image.astype(float)
    if factor == "skin":
        assert apart[:, 28:44, 20:44].mean() > 15
    elif factor == "light":
        assert apart[:, 20:50, :30].mean() * apart[:, 20:50, 34:].mean() < 0
    else:
        assert 1 < np.abs(apart).mean() < 25


def test_marks_are_in_the_pixels_and_the_set_is_signed_as_one(tiny: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    found = {finding.path.name: finding.state for finding in check(tiny)}
    assert set(found.values()) == {"ok"} and {SHEET, "plan.parquet", "shard-00003.parquet"} <= set(found)
    verdict = verify(tiny / SHEET)
    assert verdict.state == "trusted" and verdict.found
    assert verdict.statement and verdict.statement["edit"]["dataset"] == "tiny"
    plan = pd.read_parquet(tiny / "plan.parquet")
    payloads = {row["clip"]: payload_of(row) for row in plan.to_dict("records")}
    assert [payloads[clip] for clip in rows["clip"]] == rows["payload"].tolist()
    assert len(set(payloads.values())) == len(payloads)
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in tiny.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "shard-00000.parquet").write_bytes((copy / "shard-00001.parquet").read_bytes())
    states = {finding.path.name: finding.state for finding in check(copy)}
    assert states["shard-00000.parquet"] == "tampered" and states[SHEET] == "ok"
    write_sums(copy, [line.split("  ")[1] for line in sums(copy).splitlines()])  # whoever changes both is found too
    states = {finding.path.name: finding.state for finding in check(copy)}
    assert states["shard-00000.parquet"] == "ok" and states[SHEET] == "tampered"


@pytest.mark.parametrize("name", PRESETS)
def test_a_linear_model_on_all_but_the_picture_is_at_chance(name: str) -> None:
    """Of every preset: bytes of the file, what its header says, mean colour, place among the rows, the watermark's
    strength: none may tell forgeries from reals."""
    config = preset(name)
    small = replace(
        config, size=64, frames=2, people=16, clips=96 if config.design == "random" else None,
        reenactors={"warp": Maker("warp_64"), "landmark_warp": Maker()},
        factors=replace(config.factors, **{factor: levels[:2] for factor, levels in vars(config.factors).items()}),
    )  # fmt: skip
    small = small if config.design == "random" else replace(small, factors=replace(small.factors, age=(), light=()))
    plan = make_plan(small, DEGRADATIONS)
    shown = plan[plan["pair"].isin(plan["pair"].unique()[:16])]
    made = pd.DataFrame(Studio(small, checkpoint_hashes(small), degraded).shard(shown))
    features = []
    for place, (_, row) in enumerate(made.iterrows()):
        header = Image.open(io.BytesIO(row["image"]["bytes"]))
        image = np.asarray(header)
        features.append([len(row["image"]["bytes"]), len(header.info), *image.mean((0, 1)), place])
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    label = made["label"].to_numpy()
    guesses = cross_val_predict(
        model, features, label, groups=made["identity"], cv=GroupKFold(5), method="predict_proba"
    )
    assert 0.4 <= roc_auc_score(label, guesses[:, 1]) <= 0.6


# Footage


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of clips, as ingested ones are but for who is shown."""
    out = tmp_path_factory.mktemp("footage")
    render_records(FacesConfig(size=64, seed=5, train=4, validation=2, test=2, motion="clips", frames=3), out)
    return out


def test_footage_is_swapped_as_it_was_filmed(footage: Path, tmp_path: Path) -> None:
    config = PlanConfig(
        "filmed", source="footage", footage=footage, clips=24, frames=2, size=64, reenactors={"warp": Maker("warp_64")},
        train=2, validation=1, test=1,
    )  # fmt: skip
    config = replace(config, clips=16)
    assert make(tmp_path, config)
    made, real = load(tmp_path), load(footage)
    assert set(made.identity.tolist()) == set(real.identity.tolist())
    plan = pd.read_parquet(tmp_path / "plan.parquet")
    take = plan[plan["label"] == 0].iloc[0]
    filmed = real.image[np.flatnonzero(real.clip == take["take"])[:2]].float()
    ours = made.image[np.flatnonzero(made.clip == take["clip"])].float()
    assert 0.5 < (filmed - ours).square().mean().sqrt() < 4  # the mark, and nothing else


def test_footage_without_consent_is_refused_and_named(footage: Path, tmp_path: Path, faces: Faces) -> None:
    rows = pq.read_table(footage / "shard-00000.parquet").to_pylist()
    for row in rows[:3]:
        row["origin"] = "somewhere on the net"
    write(tmp_path / "records", rows)
    config = PlanConfig(
        "x", source="footage", footage=tmp_path / "records", clips=4, frames=2, size=64,
        reenactors={"warp": Maker("warp_64")},
    )  # fmt: skip
    with pytest.raises(UserError, match=f"no consent and licence for {rows[0]['clip']}; ingest them again"):
        takes_of(config)
    with pytest.raises(UserError, match=r"have 64 pixels; set dataset\.size=64"):
        takes_of(replace(config, footage=footage, size=128))
    with pytest.raises(UserError, match=r"no dataset_info\.json"):
        takes_of(replace(config, footage=tmp_path))


# What goes wrong


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with folders.held(tmp_path, 0, 1):
        for rank, world in ((0, 1), (1, 2)):
            with pytest.raises(UserError, match="another run writes it now"), folders.held(tmp_path, rank, world):
                pass
    with folders.held(tmp_path, 0, 2), folders.held(tmp_path, 1, 2):
        pass


def test_another_plan_in_the_same_folder_is_refused(tiny: Path, tmp_path: Path) -> None:
    before = sums(tiny)
    with pytest.raises(UserError, match="holds a data set of another plan"):
        make(tiny, replace(CONFIG, seed=1))
    (tmp_path / "thesis.txt").write_text("all my work")
    with pytest.raises(UserError, match=r"holds thesis\.txt and is no folder of a data set"):
        make(tmp_path)
    assert sums(tiny) == before and (tmp_path / "thesis.txt").read_text() == "all my work"


@pytest.mark.parametrize(
    ("makers", "line"),
    [
        ({"warp": Maker()}, r"reenactors\.warp\.checkpoint: must be given"),
        ({"mine": Maker()}, r"reenactors\.mine\.checkpoint: must be given"),
        ({"mine": Maker("nowhere.safetensors")}, r"checkpoint=nowhere\.safetensors: .*no such file"),
        ({"warp": Maker("warp_128")}, r"checkpoint=warp_128: was trained at 128 pixels, dataset\.size=64"),
    ],
)  # fmt: skip
def test_reenactors_that_cannot_be_had_are_named(makers: dict[str, Maker], line: str) -> None:
    with pytest.raises(UserError, match=line):
        checkpoint_hashes(replace(CONFIG, reenactors=makers))


def test_plan_only_tells_what_it_would_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(settings(), tmp_path)
    assert "24 clips, 48 frames: about" in capsys.readouterr().err
    assert len(pd.read_parquet(tmp_path / "plan.parquet")) == found["clips"] == 24
    assert found["counts"]["method"] == {"landmark_warp": 8, "real": 8, "warp": 8} and found["estimate"]["bytes"] > 1e5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.parquet"]
