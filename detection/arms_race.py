"""The cycle: red trains against the disclosed detectors, forges; blue trains on the pools; the arena scores everybody
against everybody.

Phases never overlap, and each leaves its result in the `Journal` when it is whole: a stopped run goes on at the
phase it was in (and inside a training phase, at its last checkpoint). The red side comes in as callables (`Red`),
training as a callable (`Fit`). Disclosure is what the red phase gets of a disclosed detector: its gradients
(`white_box`), answers of an `Oracle` within a budget of queries (`scores`, `decisions`), or nothing (`none`).

Names: `G0`, `G1`, ... and `D0`, `D1`, ... are the reenactors and detectors of the rounds; `W0` is the withheld
detector, of another family, which no reenactor is ever trained against. Controls: `G1_plain` is fine-tuned as long as
`G1` but without a critic, and is what `G1` is searched from where detectors are only asked; `D1_extra` is trained as
long as `D1` on as many forgeries, all of them of `G0`; `G0_blur` is G0 blurred until it has lost as much quality as the
last reenactor.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from detection import arena, metrics
from detection.cycle import CycleOptions, Journal
from detection.data import DetectorData
from detection.detectors import build_detector, load_detector, save_detector
from detection.oracle import ANSWERS, Oracle
from detection.training import AdversarialOptions, DetectorTrainer, choose_threshold, score
from generation.records import Faces, load

WITHHELD = "W0"

Critic = Callable[[Tensor], Tensor]
Fit = Callable[[pl.LightningModule, pl.LightningDataModule, Path, int, int], None]
"""(module, data, folder, total steps, steps per epoch): trains, resumes what lies in the folder, leaves the best
weights in the module."""


class Red(Protocol):
    """The red side. Checkpoints and forgeries are files; a name is a reenactor's name."""

    def train(
        self, name: str, start: Path | None, critics: Sequence[Critic], weights: Sequence[float], folder: Path
    ) -> Path:
        """Train from scratch (`start` None) or fine-tune, with or without critics; the checkpoint's path."""

    def search(self, name: str, start: Path, oracle: Oracle, folder: Path) -> Path:
        """Move a reenactor by an oracle's answers alone, within its budget; the checkpoint's path."""

    def forge(
        self, checkpoint: Path, name: str, round: int, counts: Mapping[str, int], seed: int, folder: Path
    ) -> None:
        """Write labelled forgeries; the same seed draws the same swaps whoever forges."""

    def quality(self, forged: Faces, expression: bool = True) -> dict[str, float | None]:
        """Quality of test forgeries against their exact targets, `changed_l1_ratio` among it; `expression`: read by a
        judge too."""

    def pictures(self, forged: Faces, count: int) -> dict[str, np.ndarray]:
        """uint8 (count, H, W, 3) each: source, driver, forgery, target of the first test forgeries."""


class ArmsRace:
    """One run of the cycle in one folder; `run` returns everything that the summary and the report say."""

    def __init__(
        self,
        real: Faces,
        red: Red,
        fit: Fit,
        options: CycleOptions,
        folder: Path,
        seed: int,
        say: Callable[[str], None],
    ) -> None:
        self.real, self.red, self.fit, self.options, self.folder, self.seed = real, red, fit, options, folder, seed
        self.journal = Journal(folder / "journal.json", say)
        self._test = real.where(split="test")
        self._forged: dict[str, Faces] = {}
        self._scores: dict[tuple[str, str], np.ndarray] = {}

    def run(self) -> dict[str, Any]:
        rounds = self.options.rounds
        for number in range(rounds):
            if number == 0:
                self._train_red("G0", None, (), ())
            else:
                self._fine_tune(number)
            self._forge(f"G{number}", number, f"G{number}")
            self._train_blue(f"D{number}", self._pool(number))
            if number == 0:
                self._train_blue(WITHHELD, {"G0": 1.0}, self.options.withheld)
            else:
                self._forge("G0", number, f"G0_more{number}", train_only=True)
                same = {"G0": 1.0} | {f"G0_more{i}": 1.0 for i in range(1, number + 1)}
                self._train_blue(f"D{number}_extra", same)
        results: dict[str, Any] = self.journal.run("arena", self._results)
        return results

    def checkpoint(self, name: str) -> Path:
        return self.folder / "reenactors" / f"{name}.safetensors"

    def detector(self, name: str) -> Path:
        return self.folder / "detectors" / f"{name}.safetensors"

    def forged(self, name: str) -> Faces:
        if name not in self._forged:
            self._forged[name] = load(self.folder / "forgeries" / name)
        return self._forged[name]

    @property
    def queries(self) -> dict[str, int]:
        """What every reenactor that was found by a search has asked."""
        done = {phase.partition(" "): entry["result"] for phase, entry in self.journal.entries.items()}
        return {name: result["queries"] for (kind, _, name), result in done.items() if kind == "search"}

    def _train_red(
        self,
        name: str,
        start: str | None,
        critics: Sequence[Critic],
        weights: Sequence[float],
        red: Red | None = None,
    ) -> None:
        def work() -> str:
            before = self.checkpoint(start) if start else None
            made = (red or self.red).train(name, before, critics, weights, self.folder / "reenactors" / name)
            return str(made.relative_to(self.folder))

        self.journal.run(f"train {name}", work)

    def _fine_tune(self, number: int) -> None:
        name, start, disclosure = f"G{number}", f"G{number - 1}", self.options.disclosure
        if disclosure == "none":
            self._train_red(name, start, (), ())
            return
        blue = self._game(number, number)[1]
        if disclosure == "white_box":
            self._train_red(name, start, [self._critic(detector) for detector in blue], list(blue.values()))
        self._train_red(f"{name}_plain", start, (), ())
        self._forge(f"{name}_plain", number, f"{name}_plain", test_only=True)
        if disclosure in ANSWERS:
            self._search(name, f"{name}_plain", blue, disclosure, self.options.queries)

    def _search(self, name: str, start: str, blue: Mapping[str, float], answers: str, queries: int) -> None:
        def work() -> dict[str, Any]:
            detectors = [load_detector(self.detector(detector)) for detector in blue]
            oracle = Oracle(detectors, list(blue.values()), answers, queries)
            made = self.red.search(name, self.checkpoint(start), oracle, self.folder / "reenactors" / name)
            return {"checkpoint": str(made.relative_to(self.folder)), "queries": oracle.asked}

        self.journal.run(f"search {name}", work)

    def _critic(self, name: str) -> Critic:
        return load_detector(self.detector(name)).module.requires_grad_(False)

    def _forge(self, name: str, number: int, folder: str, *, train_only: bool = False, test_only: bool = False) -> None:
        wanted = {
            "train": 0 if test_only else self.options.train_forgeries,
            "validation": 0 if train_only or test_only else self.options.validation_forgeries,
            "test": 0 if train_only else self.options.test_forgeries,
        }
        counts = {split: count for split, count in wanted.items() if count}
        seed = self.seed * 1000 + (number if train_only else 0)

        def work() -> dict[str, int]:
            self.red.forge(self.checkpoint(name), name, number, counts, seed, self.folder / "forgeries" / folder)
            return counts

        self.journal.run(f"forge {folder}", work)

    def _pool(self, number: int) -> dict[str, float]:
        names = [f"G{i}" for i in range(number + 1)]
        if self.options.pool == "latest" or number == 0:
            return {names[-1]: 1.0}
        if self.options.pool == "uniform":
            return dict.fromkeys(names, 1.0)
        return {name: weight for name, weight in self._game(number + 1, number)[0].items() if weight > 0}

    def _train_blue(self, name: str, pool: Mapping[str, float], family: str | None = None) -> None:
        options = self.options
        family = family or options.disclosed
        seed = self.seed * 100_003 + zlib.crc32(name.encode()) % 100_003

        def work() -> dict[str, float]:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                network = build_detector(family)
            epoch = max(1, options.detector_steps // 5)
            module = DetectorTrainer(
                network,
                total_steps=options.detector_steps,
                learning_rate=options.detector_learning_rate,
                adversarial=AdversarialOptions(0.0 if name == WITHHELD else options.adversarial),
            )
            forged = [self.forged(member) for member in pool]
            data = DetectorData(
                self.real,
                forged,
                list(pool.values()),
                batch=options.detector_batch,
                steps_per_epoch=epoch,
                seed=seed,
                masks=hasattr(network, "locate"),
            )
            self.fit(module, data, self.folder / "detectors" / name, options.detector_steps, epoch)
            real, fake = self.real.where(split="validation"), [faces.where(split="validation") for faces in forged]
            fake = [faces for faces in fake if len(faces)]
            labels, logits = joined(score(network, real.image), *(score(network, faces.image) for faces in fake))
            chosen = {"threshold": choose_threshold(labels, logits), "validation_auroc": metrics.auroc(labels, logits)}
            save_detector(self.detector(name), network, family, {}, chosen | {"pool": dict(pool)})
            return chosen

        self.journal.run(f"train {name}", work)

    def _score(self, detector: str, reenactor: str | None) -> np.ndarray:
        """Logits of a detector on the test forgeries of a reenactor, or (None) on the real test frames."""
        key = (detector, reenactor or "")
        if key not in self._scores:
            images = self.forged(reenactor).where(split="test").image if reenactor else self._test.image
            self._scores[key] = score(load_detector(self.detector(detector)).module, images)
        return self._scores[key]

    def _payoff(self, reenactors: Sequence[str], detectors: Sequence[str]) -> arena.Payoff:
        return arena.payoff_matrix(
            real={d: self._score(d, None) for d in detectors},
            real_identities=self._test.identity,
            forged={g: {d: self._score(d, g) for d in detectors} for g in reenactors},
            forged_identities={g: self.forged(g).where(split="test").identity for g in reenactors},
            resamples=self.options.resamples,
            seed=self.seed,
        )

    def _auroc(self, reenactor: str, detector: str) -> float:
        return metrics.auroc(*joined(self._score(detector, None), self._score(detector, reenactor)))

    def _game(self, red: int, blue: int) -> tuple[dict[str, float], dict[str, float]]:
        """The mixtures of the game among the first `red` reenactors and `blue` disclosed detectors."""
        reenactors, detectors = [f"G{i}" for i in range(red)], [f"D{i}" for i in range(blue)]
        game = arena.solve(np.asarray([[1 - self._auroc(g, d) for d in detectors] for g in reenactors]))
        return dict(zip(reenactors, game.red.tolist(), strict=True)), dict(
            zip(detectors, game.blue.tolist(), strict=True)
        )

    def _results(self) -> dict[str, Any]:
        rounds = range(self.options.rounds)
        reenactors, disclosed = [f"G{i}" for i in rounds], [f"D{i}" for i in rounds]
        plain = [f"G{i}_plain" for i in rounds[1:]] if self.options.disclosure != "none" else []
        extra = [f"D{i}_extra" for i in rounds[1:]]
        payoff = self._payoff(reenactors, [*disclosed, WITHHELD])
        whole = self._payoff([*reenactors, *plain], [*disclosed, *extra, WITHHELD])
        games = arena.rounds(payoff, reenactors, disclosed)
        quality = {name: self.red.quality(self.forged(name).where(split="test")) for name in [*reenactors, *plain]}
        return {
            "payoff": payoff.as_dict(),
            "game": {key: getattr(games[-1], key) for key in ("value", "red", "blue", "nash_conv")},
            "games": [asdict(game) for game in games],
            "quality": quality,
            "queries": self.queries,
            "controls": {"payoff": whole.as_dict(), "blur": self._blur(quality[reenactors[-1]])},
            "turns": turns(whole, self.options.rounds, bool(plain)),
            "forgetting": arena.forgetting(whole.matrix[: len(rounds), : len(rounds)], rounds, rounds),
            "transfer": arena.transfer(whole.matrix[: len(rounds), : len(rounds)], rounds, rounds),
            "frozen_threshold": self._frozen([*disclosed, *extra, WITHHELD], [*reenactors, *plain]),
            "withheld": [WITHHELD],
            "adversarial": self.options.adversarial,
        }

    def _blur(self, aim: Mapping[str, float | None]) -> dict[str, Any]:
        """G0 blurred inside its masks until its error reaches the last reenactor's: the evasion that mere loss of
        quality buys."""
        forged = self.forged("G0").where(split="test")
        goal = aim["changed_l1_ratio"] or 0.0
        for sigma in (0.0, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0):
            faces = self._blurred(forged, sigma)
            ratio = self.red.quality(faces, expression=False)["changed_l1_ratio"] or 0.0
            if ratio >= goal:
                break
        logits = score(load_detector(self.detector("D0")).module, faces.image)
        value = metrics.auroc(*joined(self._score("D0", None), logits))
        return {"sigma": sigma, "changed_l1_ratio": ratio, "goal": goal, "auroc_D0": value}

    def _blurred(self, faces: Faces, sigma: float) -> Faces:
        if sigma == 0:
            return faces
        image, mask = faces.image.float(), faces.mask.float() / 255
        soft = gaussian_blur(image, [2 * int(np.ceil(3 * sigma)) + 1] * 2, [sigma] * 2)
        return replace(faces, image=torch.lerp(image, soft, mask).round().to(torch.uint8))

    def _frozen(self, detectors: Sequence[str], reenactors: Sequence[str]) -> dict[str, dict[str, float]]:
        """Balanced accuracy on test at each detector's own validation threshold."""
        table: dict[str, dict[str, float]] = {}
        for detector in detectors:
            threshold = self.journal.entries[f"train {detector}"]["result"]["threshold"]
            real = self._score(detector, None)
            table[detector] = {
                reenactor: metrics.balanced_accuracy(*joined(real, self._score(detector, reenactor)), threshold)
                for reenactor in reenactors
            }
        return table


def joined(real: np.ndarray, *forged: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and logits of real and forged frames in one pair of arrays."""
    return np.repeat([0, 1], [len(real), sum(map(len, forged))]), np.concatenate([real, *forged])


def turns(payoff: arena.Payoff, rounds: int, controlled: bool) -> list[dict[str, float | None]]:
    """Round by round, did the cycle turn?

    drop: how far D_(r-1)'s AUROC falls from G_(r-1) to G_r; drop_plain: the same for the control without a critic;
    drop_withheld: the same for W0; recovery: the share of the drop that D_r wins back on G_r; recovery_extra: the
    same for the control `D_r_extra`.
    """
    value = {
        (g, d): payoff.matrix[i][j] for i, g in enumerate(payoff.reenactors) for j, d in enumerate(payoff.detectors)
    }
    found: list[dict[str, float | None]] = []
    for r in range(1, rounds):
        new, old, before, now = f"G{r}", f"G{r - 1}", f"D{r - 1}", f"D{r}"
        drop = value[old, before] - value[new, before]
        found.append(
            {
                "round": r,
                "drop": drop,
                "drop_plain": value[old, before] - value[f"{new}_plain", before] if controlled else None,
                "drop_withheld": value[old, WITHHELD] - value[new, WITHHELD],
                "recovery": (value[new, now] - value[new, before]) / drop if drop > 0 else None,
                "recovery_extra": (value[new, f"{now}_extra"] - value[new, before]) / drop if drop > 0 else None,
            }
        )
    return found
