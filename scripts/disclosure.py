"""What it is worth to keep a detector secret: evasion and quality for every way of disclosing it.

python scripts/disclosure.py                                 # synthetic faces, 64 px
python scripts/disclosure.py study.queries=[1000,100000]     # other budgets
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from detection.arms_race import Red
from detection.cycle import CycleOptions
from detection.disclosure import CONTROLS, DisclosureStudy
from detection.pictures import pareto_picture
from detection.report import number
from generation.metrics import Panel
from generation.records import Faces, UserError, write_beside
from scripts.arms_race import fit_for
from scripts.cycle_report import sample_picture
from scripts.data import apart_from_data, load_split_faces, prepare
from scripts.door import configure, entry, say
from scripts.red_team import GeneratorConfig, RedTeam, ReenactorConfig
from scripts.trainer import TrainerConfig


@dataclass(frozen=True)
class StudyConfig:
    """evasion: weights of the evasion loss where gradients are disclosed; queries: budgets where answers are; judged:
    test forgeries that the judges of identity and expression see."""

    evasion: tuple[float, ...] = (0.003, 0.03)
    queries: tuple[int, ...] = (5000, 20_000)
    judged: int = 300

    def __post_init__(self) -> None:
        if any(weight <= 0 for weight in self.evasion):
            raise UserError(
                f"study.evasion={list(self.evasion)}: weights must be more than 0; G1_plain is the one without"
            )
        if self.judged < 0:
            raise UserError(f"study.judged={self.judged}: must be 0 (nobody judges) or more")


@dataclass(frozen=True)
class DisclosureConfig:
    """Everything but the faces."""

    reenactor: ReenactorConfig = field(default_factory=ReenactorConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    cycle: CycleOptions = field(default_factory=CycleOptions)
    study: StudyConfig = field(default_factory=StudyConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = 0
    workers: int = 2

    def __post_init__(self) -> None:
        for key, instead in (("rounds", "it has one"), ("pool", "it has one"), ("disclosure", "it takes all"),
                             ("queries", "study.queries lists its budgets")):  # fmt: skip
            if getattr(self.cycle, key) != getattr(CycleOptions(), key):
                raise UserError(f"cycle.{key}: cannot be set for this study; {instead}")
        least = self.generator.search.price
        if any(budget < least for budget in self.study.queries):
            raise UserError(f"study.queries={list(self.study.queries)}: one generation of the search asks {least}")


@entry("disclosure")
def main(config: DictConfig, folder: Path) -> dict[str, Any]:
    settings = configure(DisclosureConfig, apart_from_data(config))
    faces = load_split_faces(prepare(config.data, settings.workers))
    generator, study = settings.generator, settings.study
    with ExitStack() as stack:

        def team(options: GeneratorConfig) -> RedTeam:
            return stack.enter_context(RedTeam(faces, settings.reenactor, options, settings.trainer, settings.seed))

        red = team(generator)
        white_box: dict[str, Red] = {
            f"white_box_{weight:g}": team(replace(generator, weights=replace(generator.weights, evasion=weight)))
            for weight in study.evasion
        }
        panel = Panel()
        if study.judged:
            stack.enter_context(panel)
            for line in panel.absent:
                say(line)

        def judge(forged: Faces) -> dict[str, Any]:
            return panel.quality(red.swapped(forged), study.judged)

        race = DisclosureStudy(
            faces, red, partial(fit_for, settings.trainer), settings.cycle, folder, settings.seed, say
        )
        results = race.run_study(white_box, study.queries, judge)
        for name in results["disclosures"]:
            if name != "G0_blur":
                write_beside(folder / f"samples_{name}.png", sample_picture(race, red, name))
    found = results["disclosures"]
    write_beside(folder / "pareto.png", _pareto(found))
    for line in _table(found):
        say(line)
    return results | {"seconds": race.journal.seconds}


def _kind(name: str) -> str:
    return "control" if name in CONTROLS else name.rpartition("_")[0] or name


def _pareto(found: dict[str, Any]) -> bytes:
    points = {
        name: (1 - one["auroc_D0"], one["quality"].get("csim"), one["quality"].get("aed"))
        for name, one in found.items()
    }
    return pareto_picture(points, {name: _kind(name) for name in points}, "D0")


def _table(found: dict[str, Any]) -> list[str]:
    columns = ("auroc_D0", "passed_D0", "auroc_W0"), ("changed_l1_ratio", "csim", "aed")
    width = max(map(len, found))
    lines = [f"{'':{width}}  {'queries':>8}" + "".join(f"  {name:>16}" for part in columns for name in part)]
    for name, one in found.items():
        values = [one[key] for key in columns[0]] + [one["quality"].get(key) for key in columns[1]]
        numbers = "".join(f"  {number(value):>16}" for value in values)
        lines.append(f"{name:{width}}  {one['queries']:>8}{numbers}")
    return lines


if __name__ == "__main__":
    main()
