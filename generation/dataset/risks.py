"""What is said of a set's risks, limits and uses, in the terms of Croissant's vocabulary on responsible AI, RAI 1.0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from generation.provenance import FOUND

_PEOPLE = (
    "Synthetic people are drawn from a parametric head (Anny): adults only, two modes of gender, three ancestries in "
    "random mixture, skin by melanin from it; beards, glasses and hair by fixed shares. These shares are a choice of "
    "the renderer and no sample of any population. Their expressions come from a generator of speech, six emotions, "
    "blinks and gaze, not from people who were filmed."
)
_FILMED = (
    "Footage brings the biases of whoever was filmed, and of the finder of faces and the reader of expressions "
    "(MediaPipe) that decided which clips could be used: faces that these do not find are missing."
)


def risks(facts: Mapping[str, Any]) -> dict[str, str]:
    """RAI's terms without their prefix -> text, given what `papers` knows of the set."""
    synthetic, filmed = facts["source"] != "footage", facts["source"] != "synthetic"
    names = ", ".join(item["name"] for item in facts["reenactors"])
    collected = {
        "Real clips of synthetic people are rendered; nobody was filmed.": synthetic,
        "Real clips of footage were taken from records that were ingested with a statement of licence and consent for "
        "every clip; clips without one are refused.": filmed,
        f"Forgeries were made of pairs of real clips by {names}, as a plan says that was drawn from seed "
        f"{facts['seed']} before anything was made.": True,
    }
    annotated = {
        "Label, method, source, driver, mask and factors are known by construction; nobody annotated them.": True,
        "Expression, pose and landmarks of synthetic people are exact.": synthetic,
        "Expression, pose and landmarks of footage were read by MediaPipe and have its errors; it does not read the "
        "tongue.": filmed,
        "Those of a forgery are what was asked for, not what the reenactor achieved.": True,
    }
    limits = {
        "Synthetic faces are recognisable as rendered: hair, teeth and skin are simple. A detector's score on them "
        "says how factors matter to it, not how well it does on real people.": synthetic,
        f"All forgeries are of {names}: another expression on the same face in the same pose, by the small reenactors "
        "of one laboratory. Swaps of identity, other programs' forgeries and sound are not in it.": True,
        f"{facts['unchanged']:.1%} of the forged frames were left as their source was, as the two expressions hardly "
        f"differed or the region hardly moved, and {facts['little']:.1%} have a mask of less than 0.1 % of the "
        "picture; they are labelled as forged, and the column changed tells them.": True,
        f"Every picture carries a watermark that is found again at p < {FOUND:g}; it is as strong in real pictures as "
        "in forged ones, but who adds unmarked pictures of one class gives the label away. It can be lost, in small "
        "and strongly compressed pictures above all.": True,
        "Degradations are simulations of what cameras, services and screens do.": True,
    }
    sensitive = {
        "No real person is shown. Gender, age and skin are parameters of synthetic heads.": not filmed,
        "Faces of real people, which are biometric data, with their movements; names are not in it beyond those of the "
        "footage's own files. Who is shown can ask for removal of the clip and of all forgeries of it: the columns "
        "source and driver name them.": filmed,
    }
    return {
        "dataCollection": _said(collected),
        "dataCollectionType": _said({"Synthetic generation.": synthetic, "Secondary data: ingested video.": filmed}),
        "dataPreprocessingProtocol": "Every clip, real or forged, goes through the same steps with the same draws: "
        "the degradations of its plan, H.264 where the plan says so, an invisible watermark, PNG. Faces are square "
        f"crops of {facts['size']} pixels; nothing outside the crop is kept.",
        "dataAnnotationProtocol": _said(annotated),
        "dataBiases": _said({_PEOPLE: synthetic, _FILMED: filmed}),
        "dataLimitations": _said(limits),
        "dataUseCases": "Measuring how the scores of detectors of forged faces depend on one factor at a time; "
        "training such detectors and finding forged regions; comparing reenactors. Not for judging whether a given "
        "picture of a person is authentic, recognising people, evidence, or training reenactors to deceive.",
        "dataSocialImpact": "Meant to make detectors of forged faces better tested. The same data tell a forger where "
        "detectors are weak; so every file is marked, identities are never swapped, and exported media are signed. "
        "Results on it can give false confidence where they are taken for results on people.",
        "personalSensitiveInformation": _said(sensitive),
        "dataReleaseMaintenancePlan": "Made once from its plan; the same command makes the same bytes again on the "
        "same kind of machine. A change is a new set with a new name or seed. SHA256SUMS lists every file, and the "
        "signed contact sheet names its hash. Whoever publishes it answers for it, and says whom to write to.",
    }


def _said(sentences: Mapping[str, bool]) -> str:
    return " ".join(sentence for sentence, true in sentences.items() if true)
