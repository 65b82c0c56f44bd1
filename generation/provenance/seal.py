"""The seal: a hash of a whole signed file, kept where the standard keeps room that nobody signs.

A C2PA signature covers the picture and what is stated, but neither the boxes that hold the manifest nor its padding
nor, in MP4, the file type: a bit that flips there stays unnoticed. The padding of the signature's unprotected header
(C2PA 2.2, 10.3.2.5; RFC 9052) is shortened, and the room goes to a header of our own, the sha256 of all other bytes of
the file. It is a check sum: it notices every accident; against intent stands the signature.

GIF, which breaks its data into pieces of 255 bytes, is not sealed.
"""

from __future__ import annotations

import hashlib
import mmap
import zlib
from pathlib import Path

_NAME = b"org.vicious-cycle.seal"
_MARK = bytes([0x60 + len(_NAME)]) + _NAME + b"\x58\x20"  # CBOR: a text as key, 32 bytes as value
_PADDING = b"\xa1\x63pad\x59"  # CBOR: a map of one; its key; bytes whose length is in the next two
_UNSEALED = b"GIF8"


def seal(path: Path) -> None:
    """Seal a file that was just signed, in place; its length stays."""
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        if data[:4] == _UNSEALED:
            return
        start = data.rfind(_PADDING)
        begin = start + len(_PADDING) + 2
        length = int.from_bytes(data[begin - 2 : begin], "big")
        left = length - len(_MARK) - 32
        if start < 0 or left < 256 or any(data[begin : begin + length]):
            raise ValueError(f"{path}: its signature has no room for a seal")
        data[start:begin] = b"\xa2" + _PADDING[1:] + left.to_bytes(2, "big")
        place = begin + left
        data[place : begin + length] = _MARK + bytes(32)
        _set_checksum(data)
        data[place + len(_MARK) : begin + length] = _digest(data, place)
        _set_checksum(data)


def sealed(path: Path) -> bool:
    """Whether there is a seal, whole or broken."""
    if path.stat().st_size == 0:
        return False
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(_MARK) >= 0


def holds(path: Path) -> bool:
    """Whether there is a seal that is whole, or the file is of a kind that is not sealed."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] == _UNSEALED:
            return True
        place = data.rfind(_MARK)
        begin = place + len(_MARK)
        return place >= 0 and data[begin : begin + 32] == _digest(data, place) and _checksum(data) == _noted(data)


def _digest(data: mmap.mmap, place: int) -> bytes:
    """Of everything but the seal's 32 bytes and PNG's check sum over them."""
    skipped = [(place + len(_MARK), 32)]
    chunk = _chunk(data)
    if chunk is not None:
        skipped.append((chunk[1], 4))
    digest, start = hashlib.sha256(), 0
    with memoryview(data) as view:
        for begin, length in sorted(skipped):
            digest.update(view[start:begin])
            start = begin + length
        digest.update(view[start:])
    return digest.digest()


def _chunk(data: mmap.mmap) -> tuple[int, int] | None:
    """PNG: where the chunk with the manifest begins, with its type, and where it ends."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return None
    place = data.find(b"caBX")
    end = place + 4 + int.from_bytes(data[place - 4 : place], "big")
    return (place, end) if place > 0 and end + 4 <= len(data) else None


def _checksum(data: mmap.mmap) -> bytes | None:
    chunk = _chunk(data)
    return None if chunk is None else zlib.crc32(data[slice(*chunk)]).to_bytes(4, "big")


def _noted(data: mmap.mmap) -> bytes | None:
    chunk = _chunk(data)
    return None if chunk is None else data[chunk[1] : chunk[1] + 4]


def _set_checksum(data: mmap.mmap) -> None:
    chunk = _chunk(data)
    if chunk is not None:
        data[chunk[1] : chunk[1] + 4] = zlib.crc32(data[slice(*chunk)]).to_bytes(4, "big")
