"""Speed, one JSON line a figure: {"name", "value", "unit", "config"}.

python scripts/benchmark.py                        # everything, about four minutes on 2 cores
python scripts/benchmark.py only=render,reenact    # some of it
python scripts/benchmark.py only=provenance        # marks: how the watermark does beside others, what signing costs
python scripts/benchmark.py only=families          # all families trained and compared: a quarter of an hour on 2 cores
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from detection.data import AT_ONCE, Batch, DetectorData
from detection.degradations import Degrade
from detection.detectors import TRAINABLE, build_detector
from detection.training import DetectorTrainer, score
from generation.faces.expressions import expression_bank
from generation.faces.footage import File, IngestConfig, ingest
from generation.faces.people import FacesConfig, sample_person, sample_scene
from generation.faces.render import SHARD_PEOPLE, render_records
from generation.faces.renderer import Renderer
from generation.faces.surface import flow
from generation.forge import Swaps, reenact
from generation.pairs import PairsData
from generation.records import Faces, UserError, load, shared_folder
from generation.reenactors import build_reenactor
from generation.reenactors.onnx import OnnxReenactor, export_onnx
from generation.training import LossWeights, ReenactorTrainer
from scripts.door import configure, entry, say
from scripts.families import FamiliesConfig, compare_families, synthetic_faces, table
from scripts.marks import signatures, watermarks

Figure = tuple[str, float, str, dict[str, Any]]
"""Name, value, unit, configuration."""

WARP = {64: "warp_64", 128: "warp_s"}
"""The preset of `warp` for each size."""


def preset(name: str) -> torch.nn.Module:
    """A fresh reenactor with the options of `conf/reenactor/<name>.yaml`."""
    config: Any = OmegaConf.to_container(OmegaConf.load(str(resources.files("conf") / "reenactor" / f"{name}.yaml")))
    return build_reenactor(config["name"], config["options"])


@dataclass(frozen=True)
class BenchmarkConfig:
    """only: names of `BENCHMARKS`, None for all but `HEAVY`; seconds: how long each figure is measured; families: what
    they are compared on; folder: where that run lies."""

    only: tuple[str, ...] | None = None
    seconds: float = 10.0
    workers: int = 2
    families: FamiliesConfig = field(default_factory=FamiliesConfig)
    seed: int = 0
    folder: Path = Path()


def rate(work: Callable[[], int], seconds: float) -> float:
    """Things done per second by calls of `work`, which returns how many it did; the first call is not counted."""
    work()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        done += work()
    return done / (time.perf_counter() - start)


def some_faces(size: int) -> Faces:
    with tempfile.TemporaryDirectory() as folder:
        config = FacesConfig(size=size, train=6, validation=1, test=1, expressions=8)
        render_records(config, Path(folder), workers=1)
        return load(Path(folder))


def render(config: BenchmarkConfig) -> Iterator[Figure]:
    """Whole records with mask, depth, landmarks and Motion, after the first shard of each worker."""
    for size, people in ((64, 12), (128, 8), (256, 4)):
        faces = FacesConfig(size=size, train=people * SHARD_PEOPLE - 2, validation=1, test=1)
        told = _render_times(faces, config.workers)
        (first, before), (last, after) = told[config.workers - 1], told[-1]
        frames = (after - before) * faces.expressions
        yield (
            f"render_{size}",
            frames / (last - first),
            "frames/s",
            {"workers": config.workers, "samples": faces.samples},
        )


def truth(config: BenchmarkConfig) -> Iterator[Figure]:
    """Frames with regions, depth, visible landmarks and flow to the neutral frame, one process."""
    bank = expression_bank(64, 0)
    for size in (64, 128):
        renderer = Renderer(size)
        marks, people = renderer.head.landmarks, itertools.count()

        def work(renderer: Renderer = renderer, marks: np.ndarray = marks, people: Iterator[int] = people) -> int:
            number = next(people)
            made = renderer.truth(sample_person(0, number), sample_scene(0, number, 0), bank)
            seen = [surface.sees(surface.points[marks]) for surface in made.surfaces]
            moved = [flow(surface, made.surfaces[0]) for surface in made.surfaces]
            return len(list(zip(made.labels, made.depth, seen, moved, strict=True)))

        yield f"truth_{size}", rate(work, config.seconds), "frames/s", {"samples": 4}


def _render_times(faces: FacesConfig, workers: int) -> list[tuple[float, int]]:
    """(time, clips done) at the end of every shard."""
    told: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        render_records(faces, Path(folder), workers, lambda done, total: told.append((time.perf_counter(), done)))
    return told


def train_generator(config: BenchmarkConfig) -> Iterator[Figure]:
    """A whole training step of warp: batch, forward, losses, backward, optimiser."""
    for size, name in WARP.items():
        data = PairsData(some_faces(size), batch=32, steps_per_epoch=10_000, seed=0, validation_pairs=8)
        for precision, suffix in (("bf16-mixed", ""), ("32-true", "_fp32")):
            step = _generator_step(name, data, bf16=precision == "bf16-mixed")
            about = {"batch": 32, "precision": precision, "preset": name}
            yield f"train_warp_{size}{suffix}", rate(step, config.seconds), "images/s", about
    data = PairsData(some_faces(256), batch=8, steps_per_epoch=10_000, seed=0, validation_pairs=8)
    step = _generator_step("warp_s", data, bf16=True)
    yield "train_warp_s_256", rate(step, config.seconds), "images/s", {"batch": 8, "precision": "bf16-mixed"}


def _generator_step(name: str, data: PairsData, bf16: bool) -> Callable[[], int]:
    module = ReenactorTrainer(preset(name), 1000, 1e-3, LossWeights())
    optimizer = module.configure_optimizers()["optimizer"]
    batches = iter(data.train_dataloader())

    def step() -> int:
        batch = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = torch.stack(list(module.training_terms(batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return len(batch.source)

    return step


def reenact_speed(config: BenchmarkConfig) -> Iterator[Figure]:
    """Forging (encode, decode, blend, 8 bits); and one frame after the other of a source that was encoded once."""
    for size, name in WARP.items():
        faces = some_faces(size)
        rows = np.arange(len(faces))
        reenactor = preset(name).eval()
        swaps = Swaps(rows, np.roll(rows, 8), rows)

        def work(reenactor: torch.nn.Module = reenactor, faces: Faces = faces, swaps: Swaps = swaps) -> int:
            return len(reenact(reenactor, faces, swaps)[0])

        yield f"reenact_{size}", rate(work, config.seconds), "images/s", {"batch": 64}
    faces = some_faces(256)
    reenactor = preset("warp_s").eval()
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(reenactor, 256, Path(folder))
        exported = OnnxReenactor(Path(folder), config.workers)
        for suffix, runner in (("", reenactor), ("_onnx", exported)):
            seconds = 1 / rate(_frames(runner, faces), config.seconds)
            yield f"reenact_warp_s_256{suffix}", 1000 * seconds, "ms", {"batch": 1, "source": "encoded once"}


def _frames(runner: Any, faces: Faces) -> Callable[[], int]:
    source, motion = faces.image[:1].float() / 255, faces.motion
    with torch.inference_mode():
        features = runner.encode(source, motion[:1], faces.landmarks[:1])
    wanted = itertools.cycle(torch.chunk(motion[1:8], 7))

    @torch.inference_mode()
    def work() -> int:
        runner.decode(source, features, motion[:1], next(wanted))
        return 1

    return work


def train_detector(config: BenchmarkConfig) -> Iterator[Figure]:
    """A whole training step of every trainable family at 64 px, degradations included."""
    images = torch.rand(64, 3, 64, 64)
    for name in TRAINABLE:
        step = _detector_step(build_detector(name), images)
        yield f"train_{name}_64", rate(step, config.seconds), "images/s", {"batch": 64}


def _detector_step(network: torch.nn.Module, images: Tensor, bf16: bool = False) -> Callable[[], int]:
    module = DetectorTrainer(network, total_steps=1000, learning_rate=1e-3)
    optimizer = module.configure_optimizers()["optimizer"]
    degrade, draws = Degrade(), torch.Generator().manual_seed(0)
    labels = torch.arange(len(images)) % 2.0

    def step() -> int:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = module.loss(Batch(degrade(images, draws), labels))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return len(images)

    return step


def xception(config: BenchmarkConfig) -> Iterator[Figure]:
    """The field's baseline at the field's size: a whole training step, and scoring."""
    images = torch.randint(0, 256, (16, 3, 256, 256), dtype=torch.uint8)
    network = build_detector("backbone", {"architecture": "legacy_xception"})
    for precision, suffix in (("bf16-mixed", ""), ("32-true", "_fp32")):
        bf16 = precision == "bf16-mixed"

        def work(bf16: bool = bf16) -> int:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                return len(score(network, images))

        about = {"batch": len(images), "precision": precision}
        step = _detector_step(network, images.float() / 255, bf16)
        yield f"train_xception_256{suffix}", rate(step, config.seconds), "images/s", about
        yield f"score_xception_256{suffix}", rate(work, config.seconds), "images/s", about


def detector_input(config: BenchmarkConfig) -> Iterator[Figure]:
    """Batches as training draws them, in its own process: balanced, paired, mirrored, degraded."""
    real = some_faces(256)
    forged = replace(
        real,
        label=torch.ones_like(real.label),
        method=np.full(len(real), "copy"),
        source_clip=real.clip,
        source_frame=real.frame,
    )
    data = DetectorData(real, [forged], batch=64, steps_per_epoch=100_000, seed=0, degrade=Degrade())
    batches = iter(data.train_dataloader())

    def work() -> int:
        return len(next(batches).label)

    yield "detector_input_256", rate(work, config.seconds), "images/s", {"batch": 64}


def score_speed(config: BenchmarkConfig) -> Iterator[Figure]:
    """Scoring with every trainable family at 64 px."""
    images = torch.randint(0, 256, (2 * AT_ONCE, 3, 64, 64), dtype=torch.uint8)
    for name in TRAINABLE:
        detector = build_detector(name).eval()

        def work(detector: torch.nn.Module = detector) -> int:
            return len(score(detector, images))

        yield f"score_{name}_64", rate(work, config.seconds), "images/s", {"batch": AT_ONCE}


def ingest_speed(config: BenchmarkConfig) -> Iterator[Figure]:
    """Videos to records, end to end: decode, find, track, crop, read, encode, link; the start of the workers included.

    Of `talking` in the shared data every other video, so that both workers have enough to do.
    """
    shared = shared_folder()
    if shared is None or not (shared / "data" / "talking").is_dir():
        raise UserError("only=ingest: needs real videos; set VICIOUS_CYCLE_SHARED to a folder with data/talking in it")
    videos = sorted((shared / "data" / "talking").glob("*.mp4"))[::2]
    with tempfile.TemporaryDirectory() as folder:
        files = [File(path, path.name) for path in videos]
        out, parts = Path(folder, "records"), Path(folder, "parts")
        start = time.perf_counter()
        report = ingest(files, IngestConfig(size=256), "benchmark, not kept", out, config.workers, parts=parts)
        seconds = time.perf_counter() - start
    frames = sum(file["frames"] for file in report["files"])
    yield "ingest", frames / seconds, "frames/s", {"workers": config.workers, "size": 256, "frames": frames}


def families(config: BenchmarkConfig) -> Iterator[Figure]:
    """Every family trained with one budget: the error in the changed region as a share of what copying the source
    gives, with all other figures; and how often a forgery's family is told. Ends with the table as Markdown."""
    faces = synthetic_faces(config.families, config.workers)
    found = compare_families(config.families, faces, config.folder, config.seed, config.seconds)
    for name, figures in found.figures.items():
        about = {key: round(value, 4) if isinstance(value, float) else value for key, value in figures.items()}
        yield f"family_{name}", figures["changed_l1_ratio"], "of copying the source", about
    about = {"chance": round(100 / len(found.figures), 2), "confusion": found.confusion.round(3).tolist()}
    yield "family_attribution", 100 * found.accuracy, "%", about
    say(table(found))


def provenance(config: BenchmarkConfig) -> Iterator[Figure]:
    """See `scripts.marks`."""
    renders = list(some_faces(256).image[::3].permute(0, 2, 3, 1).numpy())
    yield from signatures(renders[0])
    yield from watermarks(renders)


BENCHMARKS: dict[str, Callable[[BenchmarkConfig], Iterator[Figure]]] = {
    "render": render,
    "truth": truth,
    "train_generator": train_generator,
    "reenact": reenact_speed,
    "train_detector": train_detector,
    "score": score_speed,
    "xception": xception,
    "detector_input": detector_input,
    "ingest": ingest_speed,
    "provenance": provenance,
    "families": families,
}

HEAVY = ("provenance", "families")
"""What is run only where it is named."""


@entry("benchmark")
def main(config: DictConfig, folder: Path) -> dict[str, Any]:
    only = [config.only] if isinstance(config.only, str) else config.only
    given = {str(key): value for key, value in config.items()}
    settings = replace(configure(BenchmarkConfig, {**given, "only": only}), folder=folder)
    names = settings.only or tuple(name for name in BENCHMARKS if name not in HEAVY)
    for name in names:
        if name not in BENCHMARKS:
            raise UserError(f"only={name}: there is no such benchmark; there are {', '.join(BENCHMARKS)}")
    torch.set_num_threads(settings.workers)
    figures = []
    for name in names:
        for figure, value, unit, of in BENCHMARKS[name](settings):
            line = {
                "name": figure,
                "value": round(value, 2),
                "unit": unit,
                "config": {**of, "threads": settings.workers},
            }
            print(json.dumps(line), flush=True)
            figures.append(line)
    return {"figures": figures}


if __name__ == "__main__":
    main()
