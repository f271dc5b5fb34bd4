"""Deterministic CBOR, as strict as the page has it: one encoding per item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from refusal import Refused

MOST_DEPTH = 4
UINT, NEGATIVE, BYTES, TEXT, ARRAY, MAP = range(6)


@dataclass(frozen=True)
class Map:
    """Pairs in the order of their encoded keys; a key may be any item."""

    pairs: list[tuple[Item, Item]]


Item = Union[int, bytes, str, "list[Item]", Map]


def decode(data: bytes) -> tuple[Item, int]:
    """The item at the start of `data`, and where it ends."""
    return decode_at(data, 0, 1)


def decode_at(data: bytes, at: int, depth: int) -> tuple[Item, int]:
    """`depth` is that of an array or a map that begins here."""
    major, argument, at = decode_head(data, at)
    if major == UINT:
        return argument, at
    if major in (BYTES, TEXT):
        content = take(data, at, argument)
        return (content if major == BYTES else utf8(content)), at + argument
    if depth > MOST_DEPTH:
        raise Refused("R10", "more than 4 arrays and maps inside each other")
    if major == ARRAY:
        return decode_array(data, at, argument, depth)
    return decode_map(data, at, argument, depth)


def decode_array(data: bytes, at: int, count: int, depth: int) -> tuple[Item, int]:
    items: list[Item] = []
    while len(items) < count:
        item, at = decode_at(data, at, depth + 1)
        items.append(item)
    return items, at


def decode_map(data: bytes, at: int, count: int, depth: int) -> tuple[Item, int]:
    pairs: list[tuple[Item, Item]] = []
    last_key = b""
    while len(pairs) < count:
        key, key_end = decode_at(data, at, depth + 1)
        if data[at:key_end] <= last_key:
            raise Refused("R8", "map keys out of order, or twice")
        last_key = data[at:key_end]
        value, at = decode_at(data, key_end, depth + 1)
        pairs.append((key, value))
    return Map(pairs), at


def decode_head(data: bytes, at: int) -> tuple[int, int, int]:
    initial = take(data, at, 1)[0]
    major, short = initial >> 5, initial & 31
    if major not in (UINT, BYTES, TEXT, ARRAY, MAP):
        raise Refused("R7", f"CBOR's major type {major}")
    if short < 24:
        return major, short, at + 1
    if short > 27:
        raise Refused("R6", f"additional information {short}")
    width = 1 << (short - 24)
    argument = int.from_bytes(take(data, at + 1, width), "big")
    if len(encode_head(major, argument)) != 1 + width:
        raise Refused("R6", "an integer or a length that is not in its shortest form")
    return major, argument, at + 1 + width


def take(data: bytes, at: int, length: int) -> bytes:
    if length > len(data) - at:
        raise Refused("R11", "an item runs past its end")
    return data[at : at + length]


def utf8(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Refused("R9", "text that is not UTF-8") from None


def encode(item: Item) -> bytes:
    if isinstance(item, int):
        return encode_head(UINT, item)
    if isinstance(item, bytes):
        return encode_head(BYTES, len(item)) + item
    if isinstance(item, str):
        return encode_head(TEXT, len(item.encode())) + item.encode()
    if isinstance(item, list):
        return encode_head(ARRAY, len(item)) + b"".join(map(encode, item))
    pairs = (encode(key) + encode(value) for key, value in item.pairs)
    return encode_head(MAP, len(item.pairs)) + b"".join(pairs)


def encode_head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([major << 5 | argument])
    power = next(power for power in range(4) if argument < 1 << (8 << power))
    return bytes([major << 5 | 24 + power]) + argument.to_bytes(1 << power, "big")
