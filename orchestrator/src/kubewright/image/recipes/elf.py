# SPDX-License-Identifier: Apache-2.0
"""Which libraries a program needs, and which processor: what of an ELF file matters here.

Source of the layout: the ELF-64 object file format, little endian (System V gABI, chapters 4, 5).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
# e_machine, by Go's and Debian's word (System V gABI, chapter 4; numbers of its registry).
_MACHINES = {62: "amd64", 183: "arm64"}
_DT_NULL, _DT_NEEDED, _DT_STRTAB = 0, 1, 5


class Needs(NamedTuple):
    """``interpreter`` is the loader's path ("" for a library), ``libraries`` their sonames."""

    interpreter: str
    libraries: list[str]


def needs(data: bytes) -> Needs | None:
    """What an ELF-64 file needs at run time; None for any other file."""
    if data[:4] != b"\x7fELF" or data[4:6] != b"\x02\x01":
        return None
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    segments: list[tuple[int, int, int]] = []  # virtual address, offset, size in the file
    dynamic = b""
    interpreter = ""
    for index in range(count):
        kind, _, offset, address, _, length = struct.unpack_from(
            "<IIQQQQ", data, table + index * size
        )
        if kind == _PT_LOAD:
            segments.append((address, offset, length))
        elif kind == _PT_DYNAMIC:
            dynamic = data[offset : offset + length]
        elif kind == _PT_INTERP:
            interpreter = data[offset : offset + length].rstrip(b"\0").decode()
    entries = []
    for tag, value in struct.iter_unpack("<qQ", dynamic[: len(dynamic) // 16 * 16]):
        if tag == _DT_NULL:
            break
        entries.append((tag, value))
    strings = next((value for tag, value in entries if tag == _DT_STRTAB), 0)
    start = next((o + strings - a for a, o, n in segments if a <= strings < a + n), 0)
    names = [
        data[start + value : data.index(b"\0", start + value)].decode()
        for tag, value in entries
        if tag == _DT_NEEDED
    ]
    return Needs(interpreter, names)


def architecture(data: bytes) -> str | None:
    """The architecture of a program whose first 64 bytes these are; None for what is no ELF."""
    if len(data) < 20 or data[:4] != b"\x7fELF":
        return None
    (machine,) = struct.unpack_from("<H" if data[5] == 1 else ">H", data, 18)
    return _MACHINES.get(machine, f"machine {machine}")
