"""Makes gRPC messages of any type: likely ones, odd ones, and bytes that are none."""

from __future__ import annotations

import random
import struct
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tests.hostile import encoded, gradient

_DEPTH = 3
_MEGABYTE = 1 << 20
_PICTURES = [encoded(gradient(), form) for form in ("JPEG", "PNG", "WEBP", "BMP", "TIFF")]
_TEXTS = (
    "", "default", "sface", "sface@1", "poseface", "anna", "a" * 129, "\0", "../../etc/passwd",
    "http://127.0.0.1/", "名前", "x" * 70_000, "%s%n", "'; DROP TABLE subjects; --", "ddat",
)  # fmt: skip
_REALS = (0.0, -0.0, 1.0, -1.0, 1e-3, 0.5, 5e-324, 1e308, 3.4e38, float("nan"), float("inf"))
_WIDTHS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


class Messages:
    """Makes messages from a seed.

    Args:
        seed: of the random numbers.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - no secret is made of it

    def bytes_of(self, kind: Descriptor) -> bytes:
        """A message of that type, which may be spoilt on the wire."""
        data: bytes = self._message(kind, _DEPTH).SerializeToString()
        roll = self.random.random()
        if roll < 0.6:
            return data
        return self._spoilt(data)

    def _message(self, kind: Descriptor, depth: int) -> Any:
        made = message_factory.GetMessageClass(kind)()
        chance = self.random.choice((0.3, 0.7, 1.0))
        for field in kind.fields:
            if self.random.random() > chance or (depth == 0 and field.message_type):
                continue
            if field.is_repeated:
                self._repeat(made, field, depth)
            elif field.message_type:
                getattr(made, field.name).CopyFrom(self._message(field.message_type, depth - 1))
            else:
                setattr(made, field.name, self._value(field))
        return made

    def _repeat(self, made: Any, field: FieldDescriptor, depth: int) -> None:
        entries = getattr(made, field.name)
        count = self.random.choice((0, 1, 1, 2, 3, 40))
        if field.message_type and field.message_type.GetOptions().map_entry:
            key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
            for _ in range(count):
                if value.message_type:
                    entries[self._value(key)].CopyFrom(self._message(value.message_type, depth - 1))
                else:
                    entries[self._value(key)] = self._value(value)
        elif field.message_type:
            entries.extend(self._message(field.message_type, depth - 1) for _ in range(count))
        else:
            count = self.random.choice((count, 128, 512))
            entries.extend(self._value(field) for _ in range(min(count, 512)))

    def _value(self, field: FieldDescriptor) -> Any:
        pick = self.random
        kind = field.cpp_type
        if kind in _WIDTHS:
            least, most = _WIDTHS[kind]
            return pick.choice((max(0, least), 1, 2, 7, 112, 1000, least, most))
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return pick.random() < 0.5
        if kind == FieldDescriptor.CPPTYPE_ENUM:
            assert field.enum_type is not None
            return pick.choice([*field.enum_type.values_by_number, 77, -1])
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self._blob()
        if kind == FieldDescriptor.CPPTYPE_STRING:
            return pick.choice(_TEXTS)
        return pick.choice(_REALS)

    def _blob(self) -> bytes:
        pick = self.random
        kind = pick.randrange(5)
        if kind == 0:
            return pick.choice(_PICTURES)
        if kind == 1:  # a picture with some bytes changed
            data = bytearray(pick.choice(_PICTURES))
            for _ in range(pick.randrange(1, 6)):
                data[pick.randrange(len(data))] = pick.randrange(256)
            return bytes(data)
        if kind == 2:
            return struct.pack("<128f", *(pick.uniform(-1, 1) for _ in range(128)))
        if kind == 3:
            return bytes(pick.choice((0, 1, 3, 512, _MEGABYTE)))
        return pick.randbytes(pick.choice((1, 4, 512, 4096)))

    def _spoilt(self, data: bytes) -> bytes:
        pick = self.random
        kind = pick.randrange(7)
        if kind == 0:  # cut
            return data[: pick.randrange(len(data) + 1)]
        if kind == 1:  # some bytes changed
            changed = bytearray(data or b"\0")
            for _ in range(pick.randrange(1, 9)):
                changed[pick.randrange(len(changed))] = pick.randrange(256)
            return bytes(changed)
        if kind == 2:  # fields that nobody knows, of every wire type
            return data + b"".join(
                _tag(pick.randrange(1, 3000), wire) + body
                for wire, body in ((0, b"\x05"), (1, bytes(8)), (2, b"\x03abc"), (5, bytes(4)))
            )
        if kind == 3:  # known fields with the wrong wire type
            return (
                data + _tag(pick.randrange(1, 12), pick.choice((0, 1, 3, 4, 5, 6, 7))) + b"\1" * 8
            )
        if kind == 4:  # a length that the message does not have
            return data + _tag(pick.randrange(1, 12), 2) + b"\xff\xff\xff\xff\x0f"
        if kind == 5:  # groups within groups
            return data + b"\x0b" * pick.choice((10, 99, 101, 10_000))
        return pick.randbytes(pick.choice((0, 1, 5, 500, 100_000)))


def _tag(number: int, wire: int) -> bytes:
    value, out = number << 3 | wire, bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
