"""The cycle, from faces to a payoff matrix and a report.

python scripts/arms_race.py                       # synthetic faces, 64 px, three rounds
python scripts/arms_race.py experiment=london     # real photos
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig

from detection.arms_race import ArmsRace
from detection.cycle import CycleOptions
from detection.oracle import ANSWERS
from generation.records import UserError
from scripts.cycle_report import cycle_findings, write_cycle_report
from scripts.data import apart_from_data, load_split_faces, prepare
from scripts.door import configure, entry, flat, say
from scripts.red_team import GeneratorConfig, RedTeam, ReenactorConfig
from scripts.summary import commit, versions
from scripts.trainer import TrainerConfig, fit


@dataclass(frozen=True)
class ArmsRaceConfig:
    """Everything but the faces."""

    reenactor: ReenactorConfig = field(default_factory=ReenactorConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    cycle: CycleOptions = field(default_factory=CycleOptions)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = 0
    workers: int = 2

    def __post_init__(self) -> None:
        cycle, detectors = self.cycle, max(1, self.cycle.rounds - 1)
        least = self.generator.search.price * detectors
        if cycle.disclosure in ANSWERS and cycle.queries < least:
            raise UserError(
                f"cycle.queries={cycle.queries}: one generation of the search asks {least} "
                f"(generator.search.population x images x {detectors} detectors); allow as many or more"
            )


@entry("arms_race")
def main(config: DictConfig, folder: Path) -> dict[str, Any]:
    settings = configure(ArmsRaceConfig, apart_from_data(config))
    records = prepare(config.data, settings.workers)
    faces = load_split_faces(records)
    with RedTeam(faces, settings.reenactor, settings.generator, settings.trainer, settings.seed) as red:
        race = ArmsRace(faces, red, partial(fit_for, settings.trainer), settings.cycle, folder, settings.seed, say)
        results = race.run()
        about = {
            "title": "Vicious Cycle: an arms race",
            "data_name": str(config.data.name),
            "seed": settings.seed,
            "commit": commit(),
            "when": time.strftime("%Y-%m-%d"),
            "config": flat(asdict(settings)),
            "versions": versions(),
        }
        write_cycle_report(folder, results, race, red, about)
    for sentence in cycle_findings(results):
        say(sentence)
    say(f"report: {folder / 'report.html'}")
    return results | {"seconds": race.journal.seconds}


def fit_for(
    trainer: TrainerConfig,
    module: pl.LightningModule,
    data: pl.LightningDataModule,
    folder: Path,
    steps: int,
    epoch: int,
) -> None:
    fit(module, data, folder, trainer.with_steps(steps, epoch))


if __name__ == "__main__":
    main()
