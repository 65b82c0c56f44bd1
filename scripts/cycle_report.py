"""What the cycle found, in sentences and on a page: results of `detection.arms_race` -> `report.html`, `payoff.png`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detection.arena import Payoff, RoundGame
from detection.arms_race import ArmsRace
from detection.pictures import payoff_picture, sample_grid
from detection.report import Control, Grid, Report, number, write_report
from generation.records import write_beside
from scripts.red_team import RedTeam

SAMPLES = 6

TURNED = 0.05
"""A fall of AUROC that is worth asking how much of it was won back."""


def cycle_controls(results: Mapping[str, Any]) -> list[Control]:
    """The honest comparisons of every round, each with whether it holds."""
    found = []
    for turn in results["turns"]:
        r = turn["round"]
        before, new = f"D{r - 1}", f"G{r}"
        if turn["drop_plain"] is not None:
            found.append(
                Control(
                    f"{new}_plain",
                    f"fine-tuned as long as {new} but without a critic: {before} should fall less than for {new}",
                    {f"fall of {before}, {new}": turn["drop"], f"fall of {before}, {new}_plain": turn["drop_plain"]},
                    turn["drop_plain"] < turn["drop"],
                )
            )
        if turn["recovery_extra"] is not None:
            found.append(
                Control(
                    f"D{r}_extra",
                    f"trained as long as D{r} on as many forgeries, all of G0: it should win back less on {new}",
                    {f"D{r} wins back": turn["recovery"], f"D{r}_extra wins back": turn["recovery_extra"]},
                    turn["recovery_extra"] < turn["recovery"],
                )
            )
    blur = results["controls"]["blur"]
    last = results["payoff"]["reenactors"][-1]
    evaded = Payoff.from_dict(results["payoff"]).cell(last, "D0")[0]
    found.append(
        Control(
            "G0_blur",
            f"G0 blurred inside its masks (sigma {blur['sigma']} px) until its L1 ratio is at least that of {last}: "
            f"lost quality alone should not evade D0 as {last} does",
            {"AUROC of D0": blur["auroc_D0"], f"AUROC of D0 on {last}": evaded, "L1 ratio": blur["changed_l1_ratio"]},
            blur["auroc_D0"] > evaded,
        )
    )
    return found


def cycle_findings(results: Mapping[str, Any]) -> list[str]:
    """Plain sentences, what did not work among them."""
    payoff = Payoff.from_dict(results["payoff"])
    value, low, high = payoff.cell("G0", "D0")
    found = [f"D0 tells the forgeries of G0 with AUROC {value:.2f} [{low:.2f}, {high:.2f}], on people it never saw."]
    for turn in results["turns"]:
        r = turn["round"]
        drop = turn["drop"]
        fell = f"falls by {drop:.2f}" if drop > 0 else f"does not fall ({number(-drop, 2)} higher)"
        plain = "" if turn["drop_plain"] is None else f" (without a critic {number(-turn['drop_plain'], 2)})"
        found.append(
            f"Round {r}: D{r - 1} {fell} when the red team trains against it{plain}; "
            f"the withheld detector changes by {number(-turn['drop_withheld'], 2)}."
        )
        if drop >= TURNED:
            verdict = "wins back" if turn["recovery"] >= 0.5 else "wins back only"
            found.append(
                f"Round {r}: D{r} {verdict} {turn['recovery']:.0%} of that fall; "
                f"as much training on G0 alone {turn['recovery_extra']:.0%}."
            )
    for r, lost in results["forgetting"].items():
        if lost > 0.02:
            found.append(
                f"D{r} has forgotten: on the reenactors before its round it is {lost:.2f} AUROC below the best before."
            )
    for name, queries in results["queries"].items():
        found.append(f"{name} was found by asking, with {queries:,} queries and no gradient of any detector.")
    quality = results["quality"]
    first, last = quality["G0"]["changed_l1_ratio"], quality[payoff.reenactors[-1]]["changed_l1_ratio"]
    if first and last:
        found.append(
            f"The L1 ratio goes from {first:.3f} (G0) to {last:.3f} ({payoff.reenactors[-1]}), {last / first - 1:+.0%}."
        )
    return found


def write_cycle_report(
    folder: Path, results: Mapping[str, Any], race: ArmsRace, red: RedTeam, about: Mapping[str, Any]
) -> None:
    """`about`: title, data_name, seed, commit, when, config (flat), versions."""
    payoff = Payoff.from_dict(results["payoff"])
    whole = Payoff.from_dict(results["controls"]["payoff"])
    apart = [
        name for name in (*whole.reenactors, *whole.detectors) if name not in (*payoff.reenactors, *payoff.detectors)
    ]
    report = Report(
        payoff=whole,
        games=[RoundGame(**game) for game in results["games"]],
        judge="D0",
        withheld=results["withheld"],
        controls_named=apart,
        quality=results["quality"],
        controls=cycle_controls(results),
        findings=cycle_findings(results),
        grids=_grids(payoff.reenactors, race, red),
        seconds=race.journal.seconds,
        **about,
    )
    write_report(folder / "report.html", report)
    write_beside(folder / "payoff.png", payoff_picture(whole, apart, results["withheld"]))


def sample_picture(race: ArmsRace, red: RedTeam, name: str) -> bytes:
    """The first test forgeries of a reenactor as PNG, the same swaps for every reenactor."""
    pictures: dict[str, Any] = {**red.pictures(race.forged(name).where(split="test"), SAMPLES)}
    return sample_grid(**pictures)


def _grids(reenactors: Sequence[str], race: ArmsRace, red: RedTeam) -> list[Grid]:
    caption = "the same people and expressions in every round"
    return [Grid(name, sample_picture(race, red, name), f"{name}: {caption}") for name in reenactors]
