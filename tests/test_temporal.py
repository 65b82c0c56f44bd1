"""Clips: windows, batches and scores; and a detector that tells an order of frames from another.

A face here is a blob that glides over a texture; its forgery is the very same frames in another order.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import roc_auc_score
from torch import Tensor

from detection.clips import ClipData, score_clips, windows
from detection.degradations import DEGRADATIONS, Degrade, flip
from detection.detectors import build_detector
from detection.evaluate import AttackConfig, conditions, evaluate
from detection.training import DetectorTrainer, score
from generation.records import Faces, UserError, row, write
from scripts.train_detector import (
    DetectorConfig,
    PoolsConfig,
    TrainDetectorConfig,
    TrainingConfig,
    measure,
    prepare,
)
from scripts.trainer import TrainerConfig, fit

SIZE = 24
FRAMES = 9
LENGTH = 6


def _faces(rows: list[dict[str, Any]], image: Tensor | None = None) -> Faces:
    count = len(rows)

    def column(name: str, otherwise: Any) -> np.ndarray:
        return np.asarray([row.get(name, otherwise) for row in rows])

    methods = column("method", "")
    image = torch.zeros(count, 3, 8, 8, dtype=torch.uint8) if image is None else image
    return Faces(
        image=image,
        mask=torch.zeros_like(image[:, :1]),
        expression=torch.zeros(count, 52),
        pose=torch.zeros(count, 6),
        landmarks=torch.zeros(count, 68, 2),
        label=torch.from_numpy((methods != "").astype(np.int64)),
        identity=column("identity", "anna"),
        scene=column("scene", "0"),
        clip=column("clip", "a"),
        frame=column("frame", 0),
        split=column("split", "train"),
        method=methods,
        source_clip=column("source_clip", ""),
        source_frame=column("source_frame", -1),
        driver_clip=column("driver_clip", ""),
        driver_frame=column("driver_frame", -1),
        origin=column("origin", "invented"),
    )


def _gliding(people: dict[str, int]) -> tuple[Faces, Faces]:
    """Real clips, and the same frames in another order."""
    rows, images, orders = [], [], []
    y, x = np.mgrid[:SIZE, :SIZE]
    for split, number in ((split, number) for split, count in people.items() for number in range(count)):
        generator = np.random.default_rng([len(split), number])
        texture = ndimage.zoom(generator.uniform(60, 150, (6, 6, 3)), (SIZE / 6, SIZE / 6, 1), order=1)
        angle = generator.uniform(0, 2 * np.pi)
        path = np.linspace(-6.5, 6.5, FRAMES)[:, None] * [np.sin(angle), np.cos(angle)] + SIZE / 2
        for frame, (down, across) in enumerate(path):
            blob = np.exp(-((x - across) ** 2 + (y - down) ** 2) / 18)[..., None]
            images.append(texture * (1 - blob) + 230 * blob)
            rows.append({"split": split, "identity": f"{split}{number}", "clip": f"{split}{number}", "frame": frame})
        orders.append(len(orders) * FRAMES + generator.permutation(FRAMES))
    image = torch.from_numpy(np.stack(images).round().astype(np.uint8)).permute(0, 3, 1, 2).contiguous()
    forged = [row | {"method": "G0"} for row in rows]
    return _faces(rows, image), _faces(forged, image[np.concatenate(orders)])


@pytest.fixture(scope="module")
def gliding() -> tuple[Faces, Faces]:
    return _gliding({"train": 60, "validation": 12, "test": 30})


def _numbered() -> Faces:
    """Clips of several lengths with a gap, in a mixed order; every image holds its row's number."""
    rows = []
    for clip, method, frames in (
        ("a", "", range(7)),
        ("a", "G0", range(3, 9)),
        ("a", "G1", range(3, 9)),
        ("b", "", [0, 1, 2, 3, 5, 6, 7, 8, 9]),
        ("c", "", [4]),
    ):
        rows += [{"clip": clip, "identity": clip, "method": method, "frame": frame} for frame in frames]
    rows = [rows[index] for index in np.random.default_rng(0).permutation(len(rows))]
    return _faces(rows, torch.arange(len(rows), dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8))


@pytest.mark.parametrize(("length", "every"), list(product((1, 2, 3, 5), (1, 2, 3, 5))))
def test_windows_are_all_runs_of_frames_within_a_clip(length: int, every: int) -> None:
    faces = _numbered()
    keys = list(zip(faces.label.tolist(), faces.method, faces.clip, faces.frame.tolist(), strict=True))
    expected = []
    for label, method, clip, frame in sorted(keys):
        before = frame
        while (label, method, clip, before - 1) in keys:
            before -= 1
        run = [(label, method, clip, frame + i) for i in range(length)]
        if (frame - before) % every == 0 and all(key in keys for key in run):
            expected.append([keys.index(key) for key in run])
    assert windows(faces, length, every).tolist() == expected


def test_a_frame_that_is_there_twice_makes_two_clips() -> None:
    once = _numbered()
    twice = Faces.concatenate([once, once])
    rows = windows(twice, 3)
    assert len(rows) == 2 * len(windows(once, 3))
    assert ((rows < len(once)).all(1) | (rows >= len(once)).all(1)).all()


@pytest.mark.parametrize("made_of", ["source", "driver"])
@pytest.mark.parametrize(("frames", "count"), [(range(5), 3), ([2] * 5, 3), ([0, 1, 2, 7, 8], 1), ([4, 3, 2, 1, 0], 0)])
def test_a_forgerys_window_follows_its_source_and_driver(made_of: str, frames: list[int], count: int) -> None:
    told = [
        {"method": "G0", "frame": i, f"{made_of}_clip": "s", f"{made_of}_frame": frame}
        for i, frame in enumerate(frames)
    ]
    if count:
        assert len(windows(_faces(told), 3)) == count
    else:
        with pytest.raises(UserError, match="no clip has so many"):
            windows(_faces(told), 3)
    told[2][f"{made_of}_clip"] = "t"
    with pytest.raises(UserError, match="no clip has so many"):
        windows(_faces(told), 3)


@pytest.mark.parametrize(("length", "says"), [(8, "length=8: no clip .* the longest has 7"), (0, "length=0: must be")])
def test_a_length_that_no_clip_has_is_refused(length: int, says: str) -> None:
    with pytest.raises(UserError, match=says):
        windows(_numbered(), length)


def _data(real: Faces, forged: list[Faces], **settings: Any) -> ClipData:
    return ClipData(real, forged, **({"length": LENGTH, "batch": 8, "steps_per_epoch": 10, "seed": 5} | settings))


def test_a_batch_is_half_real_and_each_clip_a_window(gliding: tuple[Faces, Faces]) -> None:
    real, forged = gliding
    batch = _data(real, [forged]).drawing(3)
    assert batch.image.shape == (8, LENGTH, 3, SIZE, SIZE) and batch.label.tolist() == [0] * 4 + [1] * 4
    known = {
        (label, (window.flip(-1) if mirrored else window).numpy().tobytes())
        for label, faces in enumerate(gliding)
        for window in faces.image[windows(faces.where("train"), LENGTH)]
        for mirrored in (False, True)
    }
    pixels = (batch.image * 255).round().to(torch.uint8)
    assert all((int(label), clip.numpy().tobytes()) in known for clip, label in zip(pixels, batch.label, strict=True))


def test_batches_are_the_same_whoever_asks_and_whenever(gliding: tuple[Faces, Faces]) -> None:
    real, forged = gliding
    one, two = (_data(real, [forged], degrade=Degrade(probability=0.5)) for _ in range(2))
    two.drawing(9)
    torch.manual_seed(1)
    for step, batch in enumerate(one.train_dataloader()):
        assert torch.equal(batch.image, two.drawing(step).image)
    assert not torch.equal(one.drawing(0).image, one.drawing(1).image)
    assert not torch.equal(one.drawing(0).image, _data(real, [forged], seed=6).drawing(0).image)


def test_people_count_alike_and_the_real_half_is_what_forgeries_were_made_of() -> None:
    """One person has nine times the frames of another; sources are windows of the same person, ten frames later."""

    def clips(of: str, **more: Any) -> list[dict[str, Any]]:
        count = {"anna": 60, "bert": 12}[of]
        return [{"clip": of, "identity": of, "frame": i} | {k: f(i) for k, f in more.items()} for i in range(count)]

    names = ("anna", "bert")
    made = {"source_frame": lambda i: i + 2}
    train = [row for name in names for row in clips(name)]
    fakes = [row | {"method": "G0", "source_clip": name} for name in names for row in clips(name, **made)]
    held = [{"split": "validation", "identity": "carl", "frame": i} for i in range(6)]
    real = _faces(train + held)
    forged = _faces(fakes + [row | {"method": "G0"} for row in held])
    drawing = _data(real, [forged]).drawing
    drawn = [drawing.rows(np.random.default_rng(step)) for step in range(150)]
    originals, _, items = (np.concatenate(part) for part in zip(*drawn, strict=True))
    pool, source = drawing.pools[0], drawing.real
    assert 0.43 < np.mean(pool.identity[items] == "anna") < 0.57
    found, wanted = source.faces.frame[source.first[originals]], pool.faces.frame[pool.first[items]] + 2
    last = np.where(pool.identity[items] == "anna", 60, 12) - LENGTH
    assert np.array_equal(source.identity[originals], pool.identity[items])
    assert np.array_equal(found[wanted <= last], wanted[wanted <= last]) and np.any(wanted > last)


def test_validation_is_windows_in_order(gliding: tuple[Faces, Faces]) -> None:
    real, forged = gliding
    batches = list(_data(real, [forged], length=4).val_dataloader())
    held = [faces.where("validation").image.unflatten(0, (12, FRAMES)) for faces in (real, forged)]
    by_name = sorted(range(12), key=str)
    expected = [clips[number, first : first + 4] for clips in held for number in by_name for first in (0, 4)]
    assert torch.equal(torch.cat([batch.label for batch in batches]), torch.arange(48).ge(24).float())
    images = torch.cat([batch.image for batch in batches])
    assert torch.equal((images * 255).round().to(torch.uint8), torch.stack(expected))


def test_clips_need_forgeries(gliding: tuple[Faces, Faces]) -> None:
    with pytest.raises(UserError, match=r"data\.forged=\[\]"):
        _data(gliding[0], [])


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_the_frames_of_a_clip_are_degraded_alike(name: str, gliding: tuple[Faces, Faces]) -> None:
    clips = gliding[0].image[: 2 * FRAMES].unflatten(0, (2, FRAMES)).float() / 255
    draws = torch.Generator().manual_seed(0)
    found = DEGRADATIONS[name](clips, 3, draws)
    assert found.shape == clips.shape and not torch.equal(found, clips)
    if name == "gamma":
        power = found.log() / clips.log()
        torch.testing.assert_close(power, power[:, :1, :1, :1, :1].expand_as(power), rtol=1e-3, atol=1e-3)
        assert power[0, 0, 0, 0, 0] != power[1, 0, 0, 0, 0]
    elif name == "h264":
        distances = torch.cdist(found.flatten(2), clips.flatten(2))
        assert torch.equal(distances.argmin(2), torch.arange(FRAMES).expand(2, -1))
    else:
        frames = DEGRADATIONS[name](clips.flatten(0, 1), 3, torch.Generator().manual_seed(0))
        assert torch.equal(found.flatten(0, 1), frames)


def test_a_clip_is_chosen_and_mirrored_as_one(gliding: tuple[Faces, Faces]) -> None:
    clips = gliding[0].image[: 40 * FRAMES].unflatten(0, (40, FRAMES)).float() / 255
    draws = torch.Generator().manual_seed(0)
    for changed, share in ((Degrade(("noise",), 0.3)(clips, draws), 0.3), (flip(clips, draws), 0.5)):
        touched = (changed != clips).flatten(2).any(2)
        assert torch.equal(touched, touched[:, :1].expand_as(touched))
        assert abs(touched.double().mean() - share) < 0.2


@pytest.mark.parametrize("name", ["frequency", "temporal"])
def test_a_clips_score_is_the_detectors_or_the_mean_of_its_frames(name: str, gliding: tuple[Faces, Faces]) -> None:
    faces = Faces.concatenate([faces.where("validation") for faces in gliding])
    module = build_detector(name)
    found = score_clips(module, faces, 4)
    rows = windows(faces, 4, every=4)
    assert found.score.shape == (48,) and np.array_equal(found.label, np.repeat([0, 1], 24))
    assert np.array_equal(found.clip, faces.clip[rows[:, 0]]) and np.array_equal(found.identity, found.clip)
    with torch.no_grad():
        clips = faces.image[rows].float() / 255
        frames = [score(module, faces.image[row]).mean() for row in rows]
        expected = frames if name == "frequency" else [float(module.eval()(clip[None])) for clip in clips]
    np.testing.assert_allclose(found.score, expected, rtol=1e-4, atol=1e-5)


def test_an_image_is_a_clip_of_one_frame_and_any_length_goes() -> None:
    module = build_detector("temporal").eval()
    clips = torch.rand(2, 7, 3, 19, 26, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(module(clips[:, 0]), module(clips[:, :1]))
        assert module(clips).shape == (2,) and torch.isfinite(module(clips)).all()
        for other in (clips.flip(1), clips[:, [0, 2, 1, 3, 4, 5, 6]], clips[:, :6]):
            assert not torch.allclose(module(clips), module(other), rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", [{"widths": [16]}, {"widths": [16, 0]}, {"layers": 0}])
def test_temporal_refuses_what_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"detector\.options\.{next(iter(options))}="):
        build_detector("temporal", options)


def test_the_order_of_frames_is_learnt_and_nothing_else(gliding: tuple[Faces, Faces], tmp_path: Path) -> None:
    """Forged and real test clips hold the same frames; a real one in another order is called forged."""
    steps = 90
    module = DetectorTrainer(build_detector("temporal", seed=1), total_steps=steps, learning_rate=3e-3)
    data = _data(*gliding[:1], [gliding[1]], batch=16, steps_per_epoch=steps)
    fit(module, data, tmp_path, TrainerConfig(accelerator="cpu", progress=False).with_steps(steps, steps))
    test = Faces.concatenate([faces.where("test") for faces in gliding])
    in_order = score_clips(module.network, test, FRAMES)
    assert roc_auc_score(in_order.label, in_order.score) > 0.95

    real = test.where(label=0)
    generator = np.random.default_rng(0)
    order = np.concatenate([start + generator.permutation(FRAMES) for start in range(0, len(real), FRAMES)])
    shuffled = score_clips(module.network, _with_images(real, real.image[order]), FRAMES).score
    threshold = np.median(in_order.score)
    assert np.mean(shuffled > threshold) > 0.8 > 0.2 > np.mean(in_order.score[in_order.label == 0] > threshold)
    frames_alone = score_clips(build_detector("frequency"), test, FRAMES)
    assert roc_auc_score(frames_alone.label, frames_alone.score.round(4)) == pytest.approx(0.5, abs=0.05)


def test_the_scripts_train_and_evaluate_detectors_of_clips(gliding: tuple[Faces, Faces], tmp_path: Path) -> None:
    folders = [tmp_path / "real", tmp_path / "forged"]
    for folder, faces in zip(folders, gliding, strict=True):
        write(folder, (
            row(
                faces.image[i].permute(1, 2, 0).numpy(), clip=str(faces.clip[i]), frame=int(faces.frame[i]),
                identity=str(faces.identity[i]), scene="", expression=np.zeros(52), pose=np.zeros(6),
                landmarks=np.zeros((68, 2)), split=str(faces.split[i]), origin="", seed=0, method=str(faces.method[i]),
            )
            for i in range(len(faces))
        ))  # fmt: skip
    pools = PoolsConfig(real=folders[0], forged=(folders[1],), batch=8, clip=LENGTH)
    training = TrainingConfig(steps=2, steps_per_epoch=2)
    made = prepare(TrainDetectorConfig(data=pools, detector=DetectorConfig("temporal"), training=training))
    assert isinstance(made.data, ClipData) and made.data.length == LENGTH
    found = measure(made.module, made.data, made.pools, 0.0, 0, LENGTH)["test"]
    assert found["real"] == found["forged"] == found["identities"] == 30, "one window a clip"
    with pytest.raises(UserError, match=r"data\.self_blended=0\.5: temporal sees clips"):
        prepare(TrainDetectorConfig(data=replace(pools, self_blended=0.5), detector=DetectorConfig("temporal")))

    both = Faces.concatenate(list(gliding))
    detectors = {"clips": made.module, "frames": build_detector("frequency")}
    attacks = AttackConfig(("square",), ("forged",), queries=1, faces=2)
    scores = evaluate(
        detectors, {"set": both}, conditions(["noise"], [1], attacks), tmp_path, clip=LENGTH, attacks=attacks
    )
    count = scores.groupby(["detector", "attack", "split"]).size()
    assert count["clips", "", "test"] == 2 * 60 and count["frames", "", "test"] == 2 * 60 * FRAMES
    assert ("clips", "square forged", "test") not in count.index
    clean = scores[(scores["detector"] == "clips") & (scores["degradation"] == "") & (scores["split"] == "test")]
    expected = score_clips(made.module, both.where("test"), LENGTH).score
    assert np.allclose(np.sort(clean["score"]), np.sort(expected), atol=1e-5)


def _with_images(faces: Faces, image: Tensor) -> Faces:
    return Faces(**{**vars(faces), "image": image})
