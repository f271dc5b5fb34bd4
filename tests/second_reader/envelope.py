"""The envelope: its header, the keys derived from it, and its payload."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holders import Holder
from refusal import KeyslotRefused, Refused
from strict_cbor import Item, Map, decode, encode

MOST_BODY = 65_488
MOST_CONTEXT = 4096
MOST_KEYSLOTS = 16
MOST_TRIED = 4
MOST_SEGMENTS = 1 << 40
SEGMENT_LENGTHS = frozenset(1 << bits for bits in range(12, 25))
ROTATION_BITS = 20
SEGMENT_OVERHEAD = 32
MORE_SEGMENTS_FOLLOW = 0xFFFF_FFFF

KIND_PAIR = 1
SUITE_FLOE = 1
KEK_SUITE = 1

Holders = Mapping[str, Holder]
Context = Mapping[str, str]


def open_envelope(
    source: BinaryIO,
    holders: Holders,
    expected: Context | None,
    min_generation: int = 0,
    payload: BinaryIO | None = None,
) -> Iterator[bytes]:
    """Yields verified plaintext. `payload` is given if the header is detached;
    an `expected` context of None accepts any."""
    header = read_header(source, detached=payload is not None)
    check_context(header, expected)
    dek = open_keyslots(header, holders)
    keys = keys_of_dek(header.envelope_id, header.context, dek)
    verify_header_tag(header, keys.header)
    if header.generation < min_generation:
        raise Refused("Reading", f"generation {header.generation} is too old")
    if payload is not None:
        read_payload_prefix(payload, header)
    return open_floe(source if payload is None else payload, keys.payload, keys.payload_aad)


def check_context(header: Header, expected: Context | None) -> None:
    if expected is None:
        return
    found = dict(header.context.pairs)
    if found and not expected:
        raise Refused("R26", "has an encryption context, and none was expected")
    for key, value in expected.items():
        if found.get(key) != value:
            raise Refused("R26", f"the encryption context does not have {key!a} as expected")


def open_keyslots(header: Header, holders: Holders) -> bytes:
    failures: list[KeyslotRefused] = []
    for keyslot in matching_keyslots(header, holders):
        try:
            return open_keyslot(header, keyslot, holders)
        except KeyslotRefused as failure:
            failures.append(failure)
    if not failures:
        raise Refused("Reading 4", "no keyslot names two keys of this reader")
    raise Refused(failures[-1].rule, "; ".join(failure.why for failure in failures))


def matching_keyslots(header: Header, holders: Holders) -> list[PairKeyslot]:
    def known(share: Share) -> bool:
        return share.uri in holders and share.algorithm in holders[share.uri].algorithms

    order = list(holders)
    matching = [
        keyslot
        for keyslot in header.keyslots
        if keyslot.suite == KEK_SUITE and known(keyslot.provider) and known(keyslot.customer)
    ]
    matching.sort(key=lambda k: (order.index(k.provider.uri), order.index(k.customer.uri)))
    return matching[:MOST_TRIED]


def open_keyslot(header: Header, keyslot: PairKeyslot, holders: Holders) -> bytes:
    sides = (keyslot.provider, keyslot.customer)
    shares = [
        unwrap_share(header, keyslot, side, share, holders[share.uri])
        for side, share in enumerate(sides)
    ]
    kek = kek_of_shares(header.envelope_id, keyslot, *shares)
    try:
        return gcm_open(kek, keyslot.wrapped_dek, dek_aad(header.envelope_id))
    except InvalidTag:
        raise KeyslotRefused("R24", "the wrapped DEK does not open") from None


def unwrap_share(
    header: Header, keyslot: PairKeyslot, side: int, share: Share, holder: Holder
) -> bytes:
    context_hash = share_hash(side, keyslot.pair_id, header.context)
    unwrapped = holder.unwrap_share(share.wrapped, share.algorithm, share_aad(context_hash))
    if len(unwrapped) != 32:
        raise KeyslotRefused("R23", f"{share.uri}: a share of {len(unwrapped)} bytes")
    if not hmac.compare_digest(share_check(unwrapped, context_hash), share.check):
        raise KeyslotRefused("R23", f"{share.uri}: the share fails its check")
    return unwrapped


def verify_header_tag(header: Header, header_key: bytes) -> None:
    if not hmac.compare_digest(header_tag(header_key, header.signed), header.tag):
        raise Refused("R25", "the header tag does not verify")


# --- Derivation ---------------------------------------------------------------


@dataclass(frozen=True)
class DekKeys:
    prk: bytes
    payload: bytes
    header: bytes
    payload_aad: bytes


def keys_of_dek(envelope_id: bytes, context: Map, dek: bytes) -> DekKeys:
    prk = extract(envelope_id, dek)
    hashed = encode([SUITE_FLOE, envelope_id, context])
    return DekKeys(
        prk=prk,
        payload=expand(prk, b"twinlock/v1 payload", 32),
        header=expand(prk, b"twinlock/v1 header", 48),
        payload_aad=b"twinlock/v1 payload aad\0" + sha384(hashed),
    )


def share_hash(side: int, pair_id: bytes, context: Map) -> bytes:
    return sha384(encode([side, pair_id, context]))


def share_aad(context_hash: bytes) -> bytes:
    return b"twinlock/v1 share\0" + context_hash


def share_check(share: bytes, context_hash: bytes) -> bytes:
    return hmac_sha384(share, b"twinlock/v1 share check\0" + context_hash)[:32]


def kek_of_shares(envelope_id: bytes, keyslot: PairKeyslot, p: bytes, c: bytes) -> bytes:
    return expand(extract(envelope_id, p + c), kek_info(keyslot), 32)


def kek_info(keyslot: PairKeyslot) -> bytes:
    provider, customer = keyslot.provider, keyslot.customer
    hashes: list[Item] = [sha384(provider.wrapped), sha384(customer.wrapped)]
    named: list[Item] = [keyslot.suite, keyslot.pair_id, provider.uri, customer.uri]
    return b"twinlock/v1 kek\0" + encode(named + hashes)


def dek_aad(envelope_id: bytes) -> bytes:
    return b"twinlock/v1 dek\0" + envelope_id


def header_tag(header_key: bytes, signed: bytes) -> bytes:
    return hmac_sha384(header_key, signed)[:32]


def sha384(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()


def hmac_sha384(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha384")


def extract(salt: bytes, ikm: bytes) -> bytes:
    return hmac_sha384(salt, ikm)


def expand(prk: bytes, info: bytes, length: int) -> bytes:
    return hmac_sha384(prk, info + b"\x01")[:length]


def gcm_open(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """`sealed` is nonce (12), ciphertext, tag (16)."""
    return AESGCM(key).decrypt(sealed[:12], sealed[12:], aad)


# --- The header ---------------------------------------------------------------


@dataclass(frozen=True)
class Share:
    uri: str
    algorithm: int
    wrapped: bytes
    check: bytes
    key_version: str | None


@dataclass(frozen=True)
class PairKeyslot:
    pair_id: bytes
    suite: int
    provider: Share
    customer: Share
    wrapped_dek: bytes


@dataclass(frozen=True)
class Header:
    signed: bytes
    tag: bytes
    envelope_id: bytes
    generation: int
    context: Map
    keyslots: list[PairKeyslot]
    unknown_kinds: list[int]
    padding: int


def read_header(source: BinaryIO, detached: bool) -> Header:
    prefix = source.read(16)
    if prefix[:8] != b"TWINLOCK"[: len(prefix)]:
        raise Refused("R1", "not a Twinlock file")
    if len(prefix) > 8 and prefix[8] != 1:
        raise Refused("R2", f"version {prefix[8]}")
    if any(prefix[9:12]):
        raise Refused("R3", "a reserved byte is not zero")
    if len(prefix) < 16:
        raise Refused("R5", "the file ends inside the prefix")
    length = int.from_bytes(prefix[12:], "big")
    if length > MOST_BODY:
        raise Refused("R4", f"a body of {length} bytes")
    rest = source.read(length + 32)
    if len(rest) < length + 32:
        raise Refused("R5", "the file ends inside the header")
    if detached and source.read(1):
        raise Refused("R5", "bytes behind the tag of a detached header")
    return parse_body(prefix, rest[:length], rest[length:])


def parse_body(prefix: bytes, body: bytes, tag: bytes) -> Header:
    item, end = decode(body)
    if any(body[end:]):
        raise Refused("R12", "padding that is not zero")
    known = {0: bytes, 2: int, 4: int, 6: Map, 8: list}
    found = fields("the body", item, known)
    if found[2] != SUITE_FLOE:
        raise Refused("R15", f"payload suite {found[2]}")
    keyslots, unknown_kinds = parse_keyslots(found[8])
    return Header(
        signed=prefix + body,
        tag=tag,
        envelope_id=sized(found[0], 32, "the envelope id"),
        generation=found[4],
        context=parse_context(found[6]),
        keyslots=keyslots,
        unknown_kinds=unknown_kinds,
        padding=len(body) - end,
    )


def parse_context(context: Map) -> Map:
    if len(encode(context)) > MOST_CONTEXT:
        raise Refused("R16", "an encryption context of more than 4096 bytes")
    for key, value in context.pairs:
        if not isinstance(key, str) or not isinstance(value, str):
            raise Refused("R16", "an encryption context that is not text to text")
        if not key:
            raise Refused("R16", "an empty key in the encryption context")
        if re.search("[\0-\x1f\x7f-\x9f]", key + value):
            raise Refused("R16", "a control character in the encryption context")
        if re.match("(twinlock|aws):", key, re.ASCII | re.IGNORECASE):
            raise Refused("R16", "a reserved key in the encryption context")
    return context


def parse_keyslots(items: list[Item]) -> tuple[list[PairKeyslot], list[int]]:
    if not 1 <= len(items) <= MOST_KEYSLOTS:
        raise Refused("R17", f"{len(items)} keyslots")
    pairs: list[PairKeyslot] = []
    unknown: list[int] = []
    for item in items:
        match item:
            case [int(kind), bytes(content)] if kind == KIND_PAIR:
                pairs.append(parse_pair(content))
            case [int(kind), bytes()]:
                unknown.append(kind)
            case _:
                raise Refused("R17", "a keyslot that is not a kind and its content")
    if len({pair.pair_id for pair in pairs}) < len(pairs):
        raise Refused("R22", "two keyslots with one pair id")
    return pairs, unknown


def parse_pair(content: bytes) -> PairKeyslot:
    item, end = decode(content)
    if end != len(content):
        raise Refused("R11", "a keyslot that goes on behind its item")
    found = fields("a keyslot", item, {0: bytes, 2: int, 4: Map, 6: Map, 8: bytes})
    provider, customer = parse_share(found[4]), parse_share(found[6])
    if provider.uri == customer.uri:
        raise Refused("R21", "one key on both sides of a keyslot")
    return PairKeyslot(
        pair_id=sized(found[0], 32, "a pair id"),
        suite=found[2],
        provider=provider,
        customer=customer,
        wrapped_dek=sized(found[8], 60, "a wrapped DEK"),
    )


def parse_share(item: Map) -> Share:
    known = {0: str, 2: int, 4: bytes, 6: bytes, 8: str}
    found = fields("a share", item, known, optional={8})
    if not re.fullmatch(r"[\x21-\x7e]{1,1024}", found[0]):
        raise Refused("R18", "a key URI that breaks its rules")
    if not 1 <= len(found[4]) <= 6144:
        raise Refused("R19", f"a wrapped share of {len(found[4])} bytes")
    if 8 in found and not re.fullmatch("[A-Za-z0-9-]{1,64}", found[8]):
        raise Refused("R20", "a key version that breaks its rules")
    return Share(found[0], found[2], found[4], sized(found[6], 32, "a check"), found.get(8))


def fields(
    name: str, item: Item, known: Mapping[int, type], optional: Container[int] = ()
) -> dict[int, Any]:
    if not isinstance(item, Map):
        raise Refused("R13", f"{name} is not a map")
    found: dict[int, Any] = {}
    for key, value in item.pairs:
        if not isinstance(key, int):
            raise Refused("R13", f"{name} has a key that is not an unsigned integer")
        if key not in known and key % 2 == 0:
            raise Refused("R14", f"{name} has the unknown even field {key}")
        if key in known and not isinstance(value, known[key]):
            raise Refused("R13", f"field {key} of {name} has another type")
        found[key] = value
    for key in known:
        if key not in found and key not in optional:
            raise Refused("R13", f"{name} lacks field {key}")
    return found


def sized(value: bytes, length: int, name: str) -> bytes:
    if len(value) != length:
        raise Refused("R13", f"{name} of {len(value)} bytes")
    return value


# --- The payload --------------------------------------------------------------


def read_payload_prefix(payload: BinaryIO, header: Header) -> None:
    if payload.read(44) != b"TWINPAYL\x01\0\0\0" + header.envelope_id:
        raise Refused("R27", "not the payload of this header")


def open_floe(
    source: BinaryIO,
    key: bytes,
    aad: bytes,
    segment_lengths: Container[int] = SEGMENT_LENGTHS,
    rotation_bits: int = ROTATION_BITS,
) -> Iterator[bytes]:
    """Yields the plaintext of each segment once its tag is verified. The last
    two arguments differ only in the known answers of FLOE itself."""
    params = read_exactly(source, 10)
    length = int.from_bytes(params[2:6], "big")
    if params[:2] != b"\0\0" or params[6:] != b"\0\0\0\x20" or length not in segment_lengths:
        raise Refused("R28", f"FLOE parameters {params.hex()}")
    iv, tag = read_exactly(source, 32), read_exactly(source, 32)

    def kdf(prk: bytes, purpose: bytes, size: int) -> bytes:
        return expand(prk, params + iv + purpose + aad, size)

    if not hmac.compare_digest(kdf(key, b"HEADER_TAG:", 32), tag):
        raise Refused("R29", "FLOE's header tag does not verify")
    message_key = kdf(key, b"MESSAGE_KEY:", 48)
    segment_key = b""
    for position in range(MOST_SEGMENTS):
        if position % (1 << rotation_bits) == 0:
            segment_key = kdf(message_key, b"DEK:" + position.to_bytes(8, "big"), 32)
        sealed, final = read_segment(source, length)
        if final and source.read(1):
            raise Refused("R33", "bytes behind the last segment")
        segment_aad = position.to_bytes(8, "big") + (b"\x01" if final else b"\0")
        try:
            yield gcm_open(segment_key, sealed, segment_aad)
        except InvalidTag:
            raise Refused("R31", f"the tag of segment {position} does not verify") from None
        if final:
            return
    raise Refused("R34", "more than 2^40 segments")


def read_segment(source: BinaryIO, full: int) -> tuple[bytes, bool]:
    """A segment without its length field, and whether it is the last."""
    field = int.from_bytes(read_exactly(source, 4), "big")
    if field == MORE_SEGMENTS_FOLLOW:
        return read_exactly(source, full - 4), False
    if not SEGMENT_OVERHEAD <= field <= full:
        raise Refused("R30", f"a length field of {field}")
    return read_exactly(source, field - 4), True


def read_exactly(source: BinaryIO, length: int) -> bytes:
    data = source.read(length)
    if len(data) < length:
        raise Refused("R32", "the payload ends before its last segment does")
    return data
