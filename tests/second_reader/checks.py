"""Checks of this reader, and of the page: its worked vector, the known answers
of FLOE, and the project's vectors."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from envelope import (
    KEK_SUITE,
    KIND_PAIR,
    ROTATION_BITS,
    SUITE_FLOE,
    Holders,
    PairKeyslot,
    Share,
    dek_aad,
    extract,
    header_tag,
    kek_info,
    kek_of_shares,
    keys_of_dek,
    open_envelope,
    open_floe,
    open_keyslots,
    read_header,
    sha384,
    share_aad,
    share_check,
    share_hash,
    verify_header_tag,
)
from holders import HOLDERS_AEAD, FileHolder
from refusal import Refused
from strict_cbor import Item, Map, encode

REPOSITORY = Path(__file__).resolve().parents[2]
KNOWN_ANSWERS_LENGTHS = frozenset({40, 64, 4096})


def self_test() -> int:
    page = (REPOSITORY / "docs/format.md").read_text()
    computed, printed = worked_vector(page), printed_values(page)
    wrong = [name for name in printed if computed.get(name) != printed[name]]
    wrong += [name for name in computed if name not in printed]
    header = b"".join(computed[name] for name in ("prefix", "body", "header tag"))
    wrong += every_change_is_refused(header, computed)
    answers = floe_known_answers()
    wrong += [name for name, opens in answers.items() if not opens]
    for name in wrong:
        print(f"FAILED {name}")
    print(f"{len(printed)} values, {len(answers)} answers of FLOE, {len(wrong)} failed")
    return 0 if printed and answers and not wrong else 1


def printed_values(page: str) -> dict[str, bytes]:
    block = page.partition("<!-- vector begin -->")[2].partition("<!-- vector end -->")[0]
    found = re.findall(r"^(\S.*) \((\d+) bytes\)\n((?:  [0-9a-f]+\n)+)", block, re.MULTILINE)
    values = {name: bytes.fromhex(digits) for name, _, digits in found}
    assert all(len(values[name]) == int(length) for name, length, _ in found)
    return values


def worked_vector(page: str) -> dict[str, bytes]:
    """Every value of the section, computed from its inputs alone."""
    text = page.partition("## Worked vector")[2]
    inputs = ("DEK", "envelope id", "pair id", "P", "C", "nonce")
    v = {name: value for name, value in printed_values(page).items() if name in inputs}
    pairs = json.loads(re.search(r"context is `(.*?)`", text)[1])  # type: ignore[index]
    context = Map(sorted(pairs.items(), key=lambda pair: encode(pair[0])))
    shares = [worked_share(text, side, v, context) for side in (0, 1)]
    keyslot = PairKeyslot(v["pair id"], KEK_SUITE, shares[0], shares[1], b"")
    keys = keys_of_dek(v["envelope id"], context, v["DEK"])
    v["encryption context"] = encode(context)
    v["PRK = Extract(envelope id, DEK)"] = keys.prk
    v["payload key"], v["header key"] = keys.payload, keys.header
    hashed = encode([SUITE_FLOE, v["envelope id"], context])
    v["CBOR[payload suite, envelope id, encryption context]"] = hashed
    v["payload AAD"] = keys.payload_aad
    v["PRK = Extract(envelope id, P || C)"] = extract(v["envelope id"], v["P"] + v["C"])
    v["info"] = kek_info(keyslot)
    v["KEK"] = kek_of_shares(v["envelope id"], keyslot, v["P"], v["C"])
    sealed = AESGCM(v["KEK"]).encrypt(v["nonce"], v["DEK"], dek_aad(v["envelope id"]))
    v["wrapped DEK"] = v["nonce"] + sealed
    padding = bytes(int(re.search(r"padding has (\d+) bytes", text)[1]))  # type: ignore[index]
    v["body"] = encode(worked_body(v, context, shares)) + padding
    v["prefix"] = b"TWINLOCK\x01\0\0\0" + len(v["body"]).to_bytes(4, "big")
    v["header tag"] = header_tag(v["header key"], v["prefix"] + v["body"])
    return v


def worked_share(text: str, side: int, v: dict[str, bytes], context: Map) -> Share:
    def cell(row: str) -> str:
        return re.search(rf"^\| {row} \|.*$", text, re.MULTILINE)[0].split("|")[2 + side]  # type: ignore[index]

    def quoted(row: str) -> str | None:
        found = re.search("`(.*)`", cell(row))
        return found and found[1]

    name = "PC"[side]
    context_hash = share_hash(side, v["pair id"], context)
    v[f"H of {name}"], v[f"share AAD of {name}"] = context_hash, share_aad(context_hash)
    v[f"check of {name}"] = share_check(v[name], context_hash)
    wrapped = str(quoted("wrapped share")).encode()
    uri, version = str(quoted("key URI")), quoted("key version")
    return Share(uri, int(cell("algorithm")), wrapped, v[f"check of {name}"], version)


def worked_body(v: dict[str, bytes], context: Map, shares: list[Share]) -> Map:
    def share_map(share: Share) -> Map:
        pairs: list[tuple[Item, Item]] = [(0, share.uri), (2, share.algorithm)]
        pairs += [(4, share.wrapped), (6, share.check)]
        return Map(pairs + [(8, share.key_version)] if share.key_version else pairs)

    sides = [(4, share_map(shares[0])), (6, share_map(shares[1]))]
    keyslot = Map([(0, v["pair id"]), (2, KEK_SUITE), *sides, (8, v["wrapped DEK"])])
    keyslots: list[Item] = [[KIND_PAIR, encode(keyslot)]]
    return Map([(0, v["envelope id"]), (2, SUITE_FLOE), (4, 0), (6, context), (8, keyslots)])


class KnownShare:
    """Stands for a holder that has unwrapped what it was given."""

    algorithms = frozenset({HOLDERS_AEAD})

    def __init__(self, share: bytes) -> None:
        self.share = share

    def unwrap_share(self, wrapped: bytes, algorithm: int, aad: bytes) -> bytes:
        return self.share


def every_change_is_refused(header: bytes, v: dict[str, bytes]) -> list[str]:
    pair = read_header(io.BytesIO(header), detached=True).keyslots[0]
    holders = {pair.provider.uri: KnownShare(v["P"]), pair.customer.uri: KnownShare(v["C"])}

    def opens(changed: bytes) -> bool:
        try:
            parsed = read_header(io.BytesIO(changed), detached=True)
            dek = open_keyslots(parsed, holders)
            keys = keys_of_dek(parsed.envelope_id, parsed.context, dek)
            verify_header_tag(parsed, keys.header)
        except Refused:
            return False
        return True

    number, bits = int.from_bytes(header, "big"), 8 * len(header)
    flipped = ((number ^ 1 << bit).to_bytes(len(header), "big") for bit in range(bits))
    cut = (header[:length] for length in range(len(header)))
    wrong = ["the header does not open"] if not opens(header) else []
    wrong += ["a header with a flipped bit opens" for changed in flipped if opens(changed)]
    return wrong + ["a cut header opens" for changed in cut if opens(changed)]


def floe_known_answers() -> dict[str, bool]:
    """Which of them open: the project's, and those of others where present."""
    opens = {}
    for path in sorted((REPOSITORY / "crates/floe/vectors").glob("*.txt")):
        text = path.read_text().replace("\n  ", "")
        v = dict(line.split(":", 1) for line in text.splitlines())
        key, aad, plaintext = (bytes.fromhex(v[name]) for name in ("key", "aad", "plaintext"))
        sealed = bytes.fromhex(v["header"] + v["segments"])
        opens[path.name] = floe_opens(sealed, key, aad, plaintext, ROTATION_BITS)
    for path in sorted((REPOSITORY.parent / "shared/floe-kats").glob("*_ct.txt")):
        sealed = bytes.fromhex(path.read_text())
        plaintext = bytes.fromhex(path.with_name(path.name.replace("_ct", "_pt")).read_text())
        bits = 2 if "rotation" in path.name else ROTATION_BITS
        opens[path.name] = floe_opens(sealed, bytes(32), b"This is AAD", plaintext, bits)
    return opens


def floe_opens(sealed: bytes, key: bytes, aad: bytes, plaintext: bytes, rotation_bits: int) -> bool:
    segments = open_floe(io.BytesIO(sealed), key, aad, KNOWN_ANSWERS_LENGTHS, rotation_bits)
    try:
        return b"".join(segments) == plaintext
    except Refused:
        return False


# --- The vectors -------------------------------------------------------------

VECTOR_KEYS = "file:///twinlock-vectors/"
# What this reader meets first in an envelope that breaks two rules.
BROKEN_AS_WELL = {"keyslot_without_its_byte_string": "R10"}


def run_vectors(folder: Path) -> int:
    """Runs a folder in the form that tests/vectors/README.md gives."""
    names = ("provider.kek", "customer.kek")
    holders = {VECTOR_KEYS + name: FileHolder(folder / name) for name in names}
    passed = failed = 0
    for path in sorted(folder.glob("*.txt")):
        wrong = run_vector(path, holders)
        passed, failed = passed + (not wrong), failed + bool(wrong)
        print(f"FAILED {path.stem}: {wrong}" if wrong else f"ok {path.stem}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def run_vector(path: Path, holders: Holders) -> str:
    """What is wrong, or nothing."""
    head, _, digits = path.read_text(encoding="utf-8").partition("\n\n")
    lines = [line.partition(": ")[::2] for line in head.split("\n")]
    told = {"rule": "success", "min-generation": "0"} | dict(lines)
    context = dict(value.partition("=")[::2] for name, value in lines if name == "context")
    source, payload, released = io.BytesIO(bytes.fromhex(digits)), None, b""
    if "header" in told:
        source, payload = io.BytesIO(bytes.fromhex(told["header"])), source
    min_generation, outcome = int(told["min-generation"]), "success"
    try:
        for plaintext in open_envelope(source, holders, context, min_generation, payload):
            released += plaintext
    except Refused as refusal:
        outcome = refusal.rule
    rule = BROKEN_AS_WELL.get(path.stem, told["rule"])
    if not is_expected(outcome, told["expect"], rule):
        return f"{outcome} instead of {told['expect']} ({rule})"
    if str(len(released)) != told["released-len"]:
        return f"released {len(released)} bytes instead of {told['released-len']}"
    return "" if sha384(released).hex() == told["released-sha384"] else "released other bytes"


def is_expected(outcome: str, expect: str, rule: str) -> bool:
    """`rule` is what the envelope breaks. A reader may notice that by another
    rule; the vector's `expect` then goes with that one alone."""
    return expect in words_for(outcome) and (outcome == rule or expect not in words_for(rule))


def words_for(rule: str) -> set[str]:
    words = {
        "success": "success",
        "R1": "not-twinlock",
        "R2": "unsupported-version",
        "R5": "truncated-header malformed-header",
        "R14": "unknown-field",
        "R15": "unsupported-suite",
        "R23": "refused-share wrong-share",
        "R24": "wrong-dek",
        "R25": "tampered-header",
        "R26": "wrong-context unexpected-context",
        "R27": "payload-prefix truncated",
        "R28": "payload-header segment-length",
        "R29": "payload-header",
        "R30": "segment",
        "R31": "segment",
        "R32": "truncated",
        "R33": "trailing",
        "Reading": "old-generation",
        "Reading 4": "no-keyslot",
    }
    return set(words.get(rule, "malformed-header").split())
