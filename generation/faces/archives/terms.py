"""Terms: under which licence faces may be used, and what the people in them agreed to.

Every row of records carries such a statement as its `origin`. Nobody's face enters the laboratory without one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from generation.records import UserError


class Terms(NamedTuple):
    """What is known of an archive's terms, and where they stand in full."""

    licence: str
    consent: str
    url: str

    def __str__(self) -> str:
        return f"{self.licence}; consent: {self.consent}; {self.url}"


TERMS = {
    "faceforensics++": Terms(
        licence="FaceForensics++, Roessler et al. 2019: FaceForensics Terms of Use, research use on request",
        consent="YouTube videos, the people in them were not asked; DeepFakeDetection: paid actors who agreed",
        url="https://github.com/ondyari/FaceForensics",
    ),
    "celeb-df": Terms(
        licence="Celeb-DF, Li et al. 2020: Terms to Use Celeb-DF, research use on request",
        consent="YouTube videos of public figures, who were not asked; they can have theirs removed",
        url="https://github.com/yuezunli/celeb-deepfakeforensics",
    ),
    "dfdc": Terms(
        licence="DeepFake Detection Challenge Dataset, Dolhansky et al. 2020: its data set licence, on request",
        consent="paid actors who agreed to take part and to have their likenesses modified",
        url="https://ai.meta.com/datasets/dfdc",
    ),
    "dfdcp": Terms(
        licence="DeepFake Detection Challenge Preview, Dolhansky et al. 2019: its data set licence, on request",
        consent="actors who agreed to the use and manipulation of their likenesses",
        url="https://arxiv.org/abs/1910.08854",
    ),
    "df40": Terms(
        licence="DF40, Yan et al. 2024: CC BY-NC 4.0, and the terms of the sets it was made from "
        "(FaceForensics++, Celeb-DF, UADFV, VFHQ, FFHQ, CelebA)",
        consent="as in those sets: for the most part people who were not asked",
        url="https://github.com/YZY-stack/DF40",
    ),
    "deepfakebench": Terms(
        licence="faces as DeepfakeBench prepares them, Yan et al. 2023: CC BY-NC 4.0, and the terms of every set "
        "that its JSON lists",
        consent="as in those sets",
        url="https://github.com/SCLBD/DeepfakeBench",
    ),
}
"""Archive -> its terms. A reminder of what a user agreed to, not a substitute for it."""


@dataclass(frozen=True)
class Origin:
    """The user's word on the terms of the faces.

    terms: the archive's name, to confirm what `TERMS` says of it
    consent, licence: the statements by hand, both
    """

    terms: str | None = None
    consent: str | None = None
    licence: str | None = None


def confirmed(archive: str, origin: Origin) -> str:
    """The statement for the rows' `origin`.

    Raises `UserError` that says which terms apply and how to confirm them.
    """
    by_hand = {name: " ".join((getattr(origin, name) or "").split()) for name in ("consent", "licence")}
    known = TERMS.get(archive)
    if origin.terms is not None:
        if any(by_hand.values()):
            raise UserError(
                f"origin.terms={origin.terms} and origin.consent, origin.licence: give either the one or the others"
            )
        if known is None:
            raise UserError(
                f"origin.terms={origin.terms}: no terms are known for {archive}; "
                'give origin.licence="..." and origin.consent="..." instead'
            )
        if origin.terms != archive:
            raise UserError(
                f"origin.terms={origin.terms}: the faces are read as {archive}, whose terms are: {known}; "
                f"if you may use them so, confirm with origin.terms={archive}"
            )
        return str(known)
    if all(by_hand.values()):
        return f"{by_hand['licence']}; consent: {by_hand['consent']}"
    missing = " and ".join(f'origin.{name}="..."' for name, text in by_hand.items() if not text)
    if known is None or any(by_hand.values()):
        raise UserError(f"{missing}: must be given; every face carries its licence and what the person agreed to")
    raise UserError(
        f"{archive} may be used under terms that you have to confirm: {known}; "
        f"confirm with origin.terms={archive}, or give {missing}"
    )
