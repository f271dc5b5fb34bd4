#!/usr/bin/env python3
"""A second reader of the Twinlock envelope, written from docs/format.md alone.

It exists to show that the page suffices. It shares no code with the library,
and names the rule (R1 to R34) by which it refuses. It is not hardened: keys lie
in ordinary memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checks import run_vectors, self_test
from envelope import Holders, PairKeyslot, Share, open_envelope, read_header
from holders import FileHolder, Holder, TokenHolder
from refusal import Refused


def main() -> int:
    args = arguments().parse_args()
    if args.self_test:
        return self_test()
    try:
        return int(args.run(args))
    except (Refused, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--self-test", action="store_true", help="recompute the page's vector")
    verbs = parser.add_subparsers(metavar="VERB")
    parser.set_defaults(run=lambda _: parser.error("give a verb, or --self-test"))

    inspect = verbs.add_parser("inspect", help="show a header, unverified")
    inspect.add_argument("file", type=Path)
    inspect.set_defaults(run=run_inspect)

    decrypt = verbs.add_parser("decrypt", help="decrypt to a file or to standard output")
    decrypt.add_argument("file", type=Path, help="the envelope, or a detached header")
    decrypt.add_argument("--payload", type=Path, help="the payload of a detached header")
    decrypt.add_argument("--file-kek", action="append", default=[], metavar="URI=PATH")
    decrypt.add_argument("--pkcs11", action="append", default=[], metavar="URI")
    decrypt.add_argument("--pkcs11-module", type=Path)
    decrypt.add_argument("--token-pin-file", type=Path)
    decrypt.add_argument("--context", action="append", default=[], metavar="KEY=VALUE")
    decrypt.add_argument("--any-context", action="store_true")
    decrypt.add_argument("--min-generation", type=int, default=0, metavar="N")
    decrypt.add_argument("-o", "--output", type=Path)
    decrypt.set_defaults(run=run_decrypt)

    vectors = verbs.add_parser("vectors", help="run a folder of vectors")
    vectors.add_argument("folder", type=Path)
    vectors.set_defaults(run=lambda args: run_vectors(args.folder))
    return parser


def run_inspect(args: argparse.Namespace) -> int:
    with args.file.open("rb") as file:
        header = read_header(file, detached=False)
    shown = {
        "unverified": True,
        "envelope id": header.envelope_id.hex(),
        "generation": header.generation,
        "encryption context": dict(header.context.pairs),
        "keyslots": [shown_keyslot(keyslot) for keyslot in header.keyslots],
        "keyslots of unknown kinds": header.unknown_kinds,
        "padding": header.padding,
    }
    print(json.dumps(shown, indent=2, ensure_ascii=True))
    return 0


def shown_keyslot(keyslot: PairKeyslot) -> dict[str, Any]:
    def shown_share(share: Share) -> dict[str, Any]:
        return {"key": share.uri, "algorithm": share.algorithm, "key version": share.key_version}

    return {
        "pair id": keyslot.pair_id.hex(),
        "KEK suite": keyslot.suite,
        "provider": shown_share(keyslot.provider),
        "customer": shown_share(keyslot.customer),
    }


def run_decrypt(args: argparse.Namespace) -> int:
    expected = None if args.any_context else dict(map(pair_argument, args.context))
    holders = configured_holders(args)
    with contextlib.ExitStack() as files:
        source = files.enter_context(args.file.open("rb"))
        payload = files.enter_context(args.payload.open("rb")) if args.payload else None
        plaintext = open_envelope(source, holders, expected, args.min_generation, payload)
        if args.output is None:
            sys.stdout.buffer.writelines(plaintext)
        else:
            write_beside_and_rename(args.output, plaintext)
    return 0


def configured_holders(args: argparse.Namespace) -> Holders:
    holders: dict[str, Holder] = {}
    for uri, path in map(pair_argument, args.file_kek):
        holders[uri] = FileHolder(Path(path))
    if args.pkcs11 and not (args.pkcs11_module and args.token_pin_file):
        raise SystemExit("--pkcs11 needs --pkcs11-module and --token-pin-file")
    for uri in args.pkcs11:
        pin = args.token_pin_file.read_text().removesuffix("\n")
        holders[uri] = TokenHolder(args.pkcs11_module, pin, uri)
    return holders


def pair_argument(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise SystemExit(f"not NAME=VALUE: {text}")
    return name, value


def write_beside_and_rename(output: Path, plaintext: Iterator[bytes]) -> None:
    with tempfile.NamedTemporaryFile(dir=output.parent, delete=False) as file:
        try:
            file.writelines(plaintext)
            file.flush()
            os.replace(file.name, output)
        except BaseException:
            os.unlink(file.name)
            raise


if __name__ == "__main__":
    sys.exit(main())
