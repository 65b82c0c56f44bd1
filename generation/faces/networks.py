"""The networks that faces of photos and videos are found and read with, held together."""

from __future__ import annotations

from functools import cached_property
from types import TracebackType
from typing import Self

from generation.faces.identities import FaceEmbedder
from generation.faces.landmarks import FaceReader
from generation.faces.tracking import FaceFinder


class FaceNetworks:
    """Context manager. Making or entering one raises `UserError` where a network cannot be had."""

    def __init__(self) -> None:
        self._finder, self._reader = FaceFinder(), FaceReader()

    def __enter__(self) -> Self:
        self._reader.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.__exit__(kind, error, trace)

    @cached_property
    def _embedder(self) -> FaceEmbedder:
        """Read when it is first needed: only a video tells people apart."""
        return FaceEmbedder()
