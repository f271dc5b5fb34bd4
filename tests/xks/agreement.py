"""Two proxies with the same key: each decrypts what the other encrypted, and
both refuse the same requests by the same names. Prints how many of each.

    python3 agreement.py CONFIG.json
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "cloud"))

from botocore.credentials import Credentials  # noqa: E402

from errors import ProxyFailure  # noqa: E402
from log import Log  # noqa: E402
from network import Network, parse_route  # noqa: E402
from proxy import Configuration, Proxy, Sealed, checked_answer  # noqa: E402

CALLER = {
    "awsPrincipalArn": "arn:aws:iam::111122223333:user/tests",
    "kmsKeyArn": "arn:aws:kms:eu-central-1:111122223333:key/tests",
    "kmsOperation": "Encrypt",
    "kmsRequestId": "agreement",
}
PLAINTEXTS = [os.urandom(length) for length in (1, 12, 16, 60, 4124, 4300)]
AADS = [os.urandom(length) for length in (0, 1, 255, 256, 8192)]

Request = dict[str, Any]


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text())
    sides = [Side(config, endpoint) for endpoint in config["endpoints"]]
    opened = sum(opens(*pair) for pair in itertools.permutations(sides, 2))
    refused, differences = 0, []
    sealed = sides[1].proxy.encrypt(config["key"], CALLER, b"secret", b"aad")
    wrong_secret = Credentials(config["access_key_id"], "z" * 43)
    cases = requests(config["key"], sealed)
    last = ("another secret", "health", encrypt_request(), {"credentials": wrong_secret})
    for name, path, request, changes in itertools.chain(cases, [last]):
        answers = [side.answer(path, request, **changes) for side in sides]
        refused += answers[0] != "ok"
        if len(set(answers)) != 1:
            differences.append({"request": name, "answers": answers})
    json.dump({"opened": opened, "refused": refused, "differences": differences}, sys.stdout)


class Side:
    """One of the proxies. `config` has what both have: their routes, their
    authority, and the key store."""

    def __init__(self, config: Request, endpoint: str) -> None:
        routes = dict(parse_route(route) for route in config["routes"])
        self.network = Network(Path(config["ca"]), routes, 60, Log())
        self.endpoint, self.key, self.region = endpoint, config["key"], config["region"]
        self.path = f"{config['path']}/kms/xks/v1"
        self.credentials = Credentials(config["access_key_id"], config["secret"])
        at = Configuration(endpoint, self.path, config["access_key_id"], config["secret"])
        self.proxy = Proxy(self.network, self.region, at)

    def answer(self, path: str, request: Any, **changes: Any) -> str:
        """The name of the error, or `ok`."""
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        base = changes.get("base", self.path)
        credentials = changes.get("credentials", self.credentials)
        region = changes.get("region", self.region)
        try:
            url = f"{self.endpoint}{base}/{path}"
            checked_answer(self.network.post(url, body, credentials, region))
        except ProxyFailure as failure:
            return failure.kind
        return "ok"


def opens(sealer: Side, opener: Side) -> int:
    cases = list(itertools.product(PLAINTEXTS, AADS))
    for plaintext, aad in cases:
        sealed = sealer.proxy.encrypt(sealer.key, CALLER, plaintext, aad)
        if opener.proxy.decrypt(opener.key, CALLER, sealed, aad) != plaintext:
            sys.exit(f"{len(plaintext)} bytes with an AAD of {len(aad)} came back as others")
    return len(cases)


def requests(key: str, sealed: Sealed) -> Iterator[tuple[str, str, Any, Request]]:
    """Name, path, request, and what else is other than usual."""
    encrypt, decrypt = encrypt_request(), decrypt_request(sealed)
    yield "encrypt", f"keys/{key}/encrypt", encrypt, {}
    yield "decrypt", f"keys/{key}/decrypt", decrypt, {}
    for name, changes in ENCRYPT_CHANGES:
        yield f"encrypt, {name}", f"keys/{key}/encrypt", changed(encrypt, changes), {}
    for name, changes in [*DECRYPT_CHANGES, *alterations(sealed)]:
        yield f"decrypt, {name}", f"keys/{key}/decrypt", changed(decrypt, changes), {}
    for name, caller in CALLERS:
        for path in (f"keys/{key}/encrypt", f"keys/{key}/metadata", "health"):
            yield f"{path}, {name}", path, {**encrypt, "requestMetadata": caller}, {}
    for body in (b"", b"{", b"[]", b"null", b'"a"', b"\xff", b"{} {}"):
        yield f"the body {body!r}", f"keys/{key}/encrypt", body, {}
    for path in (f"keys/{key}/sign", "keys", f"keys/{key}", "healthy", f"keys/{key}/encrypt/x"):
        yield path, path, encrypt, {}
    yield "another key", "keys/no-such-key/encrypt", encrypt, {}
    yield "another prefix", "health", encrypt, {"base": "/tenant-z/kms/xks/v1"}
    yield "another version", "health", encrypt, {"base": "/tenant-a/kms/xks/v2"}
    yield "another region", "health", encrypt, {"region": "us-east-1"}
    yield "another access key", "health", encrypt, {"credentials": Credentials("Z" * 20, "s" * 43)}


def encrypt_request() -> Request:
    return {
        "requestMetadata": CALLER,
        "plaintext": encode(b"secret"),
        "additionalAuthenticatedData": encode(b"aad"),
        "encryptionAlgorithm": "AES_GCM",
    }


def decrypt_request(sealed: Sealed) -> Request:
    return {
        "requestMetadata": CALLER,
        "ciphertext": encode(sealed.ciphertext),
        "ciphertextMetadata": encode(sealed.metadata),
        "initializationVector": encode(sealed.iv),
        "authenticationTag": encode(sealed.tag),
        "additionalAuthenticatedData": encode(b"aad"),
        "encryptionAlgorithm": "AES_GCM",
    }


def encode(value: bytes) -> str:
    return base64.b64encode(value).decode()


def changed(request: Request, changes: Request) -> Request:
    """A field that is None is left out."""
    merged = {**request, **changes}
    kept = {name: value for name, value in merged.items() if value is not None}
    return {name: None if value is NULL else value for name, value in kept.items()}


def alterations(sealed: Sealed) -> Iterator[tuple[str, Request]]:
    fields = {
        "ciphertext": sealed.ciphertext,
        "ciphertextMetadata": sealed.metadata,
        "initializationVector": sealed.iv,
        "authenticationTag": sealed.tag,
    }
    for name, value in fields.items():
        for at in (0, len(value) - 1):
            altered = bytearray(value)
            altered[at] ^= 1
            yield f"{name} altered at {at}", {name: encode(bytes(altered))}


NULL = object()  # in JSON
NOT_BASE64 = ["c2VjcmV", "c2Vjc-V0", "c2Vj\ncmV0", "c2VjcmV0=", "c2VjcmR=", "secret!", " "]
ENCRYPT_CHANGES: list[tuple[str, Request]] = [
    *((f"plaintext {text!r}", {"plaintext": text}) for text in NOT_BASE64),
    *((f"AAD {text!r}", {"additionalAuthenticatedData": text}) for text in NOT_BASE64),
    ("no plaintext", {"plaintext": None}),
    ("an empty plaintext", {"plaintext": ""}),
    ("a number as plaintext", {"plaintext": 1}),
    ("no algorithm", {"encryptionAlgorithm": None}),
    ("another algorithm", {"encryptionAlgorithm": "AES_CBC"}),
    ("a number as algorithm", {"encryptionAlgorithm": 1}),
    ("a hash for integrity", {"ciphertextDataIntegrityValueAlgorithm": "SHA_256"}),
    ("another hash for integrity", {"ciphertextDataIntegrityValueAlgorithm": "SHA_512"}),
    ("no AAD", {"additionalAuthenticatedData": None}),
    ("an empty AAD", {"additionalAuthenticatedData": ""}),
    ("a null AAD", {"additionalAuthenticatedData": NULL}),
    ("too much plaintext", {"plaintext": encode(bytes(4301))}),
    ("too much AAD", {"additionalAuthenticatedData": encode(bytes(8193))}),
    ("an unknown field", {"tomorrow": {"a": [1]}}),
]
DECRYPT_CHANGES: list[tuple[str, Request]] = [
    *(
        (f"{name} {text!r}", {name: text})
        for name in (
            "ciphertext",
            "ciphertextMetadata",
            "additionalAuthenticatedData",
            "initializationVector",
            "authenticationTag",
        )
        for text in NOT_BASE64
    ),
    ("a number as ciphertext", {"ciphertext": 1}),
    ("metadata of 21 bytes", {"ciphertextMetadata": encode(bytes(21))}),
    ("no metadata", {"ciphertextMetadata": None}),
    ("an IV of 13 bytes", {"initializationVector": encode(bytes(13))}),
    ("an IV of 16 bytes", {"initializationVector": encode(bytes(16))}),
    ("no IV", {"initializationVector": None}),
    ("a tag of 15 bytes", {"authenticationTag": encode(bytes(15))}),
    ("a tag of 17 bytes", {"authenticationTag": encode(bytes(17))}),
    ("no tag", {"authenticationTag": None}),
    ("another AAD", {"additionalAuthenticatedData": encode(b"aae")}),
    ("no AAD", {"additionalAuthenticatedData": None}),
    ("too much ciphertext", {"ciphertext": encode(bytes(4301))}),
    ("too much AAD", {"additionalAuthenticatedData": encode(bytes(8193))}),
    ("an empty ciphertext", {"ciphertext": ""}),
    ("a longer ciphertext", {"ciphertext": encode(bytes(7))}),
    ("another algorithm", {"encryptionAlgorithm": "AES_CBC"}),
    ("an unknown field", {"tomorrow": None, "next": "week"}),
]
CALLERS: list[tuple[str, Any]] = [
    ("no metadata", None),
    ("empty metadata", {}),
    ("metadata of another type", "a"),
    ("no request id", {**CALLER, "kmsRequestId": None}),
    ("a request id of another type", {**CALLER, "kmsRequestId": 1}),
    ("no operation", {name: CALLER[name] for name in CALLER if name != "kmsOperation"}),
    ("no principal", {name: CALLER[name] for name in CALLER if name != "awsPrincipalArn"}),
    ("no key ARN", {name: CALLER[name] for name in CALLER if name != "kmsKeyArn"}),
    ("an unknown operation", {**CALLER, "kmsOperation": "OfTomorrow"}),
    ("unknown metadata", {**CALLER, "tomorrow": [1]}),
]

if __name__ == "__main__":
    main()
