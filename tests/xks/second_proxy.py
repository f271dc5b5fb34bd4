"""A second External Key Store proxy, written from the specification: keys in
memory, no HSM, one request after the other is enough.

It shares no code with `twinlock-xks`, and stores what it encrypts in the same
form (generation, AAD, ciphertext metadata). So each has to decrypt what the
other encrypted, and to refuse what the other refuses.

    python3 second_proxy.py CONFIG.json
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
import os
import re
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FORMAT = 1
GENERATION = 1
MOST_PLAINTEXT, MOST_AAD = 4300, 8192
MOST_SKEW = datetime.timedelta(minutes=5)
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 "
    r"Credential=([A-Z2-7]{20,30})/(\d{8})/([a-z0-9-]+)/kms-xks-proxy/aws4_request, *"
    r"SignedHeaders=([a-z0-9;-]+), *Signature=([0-9a-f]{64})"
)
STATUS = {
    "ValidationException": 400,
    "InvalidStateException": 400,
    "InvalidCiphertextException": 400,
    "AuthenticationFailedException": 401,
    "KeyNotFoundException": 404,
    "InvalidUriPathException": 404,
    "UnsupportedOperationException": 501,
}

Request = dict[str, Any]


class Refused(Exception):
    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass
class KeyStore:
    path: str
    region: str
    credentials: dict[str, str]
    keys: dict[str, bytes]


def answer(store: KeyStore, path: str, headers: Any, body: bytes) -> Request:
    """The four operations."""
    base = f"{store.path}/kms/xks/v1"
    operation = re.fullmatch(f"{base}/(?:(health)|keys/([^/]+)/(metadata|encrypt|decrypt))", path)
    if operation is None:
        raise Refused("InvalidUriPathException", "the path is none of this API")
    authenticate(store, path, headers, body)
    health, key, action = operation.groups()
    request = parse(body)
    caller = required(request, "requestMetadata", dict)
    required(caller, "kmsRequestId", str)
    required(caller, "kmsOperation", str)
    if health:
        return HEALTH
    required(caller, "awsPrincipalArn", str)
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", key) or key not in store.keys:
        raise Refused("KeyNotFoundException", "there is no such key")
    if action == "metadata":
        return {"keySpec": "AES_256", "keyUsage": ["ENCRYPT", "DECRYPT"], "keyStatus": "ENABLED"}
    required(caller, "kmsKeyArn", str)
    return {"encrypt": encrypt, "decrypt": decrypt}[action](AESGCM(store.keys[key]), request)


HEALTH = {
    "xksProxyFleetSize": 1,
    "xksProxyVendor": "Twinlock",
    "xksProxyModel": "second proxy of the tests",
    "ekmVendor": "none",
    "ekmFleetDetails": [{"id": "memory", "model": "none", "healthStatus": "ACTIVE"}],
}


def encrypt(key: AESGCM, request: Request) -> Request:
    require_algorithm(request)
    aad = optional_bytes(request, "additionalAuthenticatedData", MOST_AAD)
    plaintext = required_bytes(request, "plaintext", MOST_PLAINTEXT)
    integrity = request.get("ciphertextDataIntegrityValueAlgorithm")
    if integrity not in (None, "SHA_256"):
        raise Refused("ValidationException", "the integrity algorithm is unknown")
    metadata = bytes([FORMAT]) + GENERATION.to_bytes(4, "big")
    iv = os.urandom(12)
    sealed = key.encrypt(iv, plaintext, hsm_aad(aad, metadata))
    ciphertext, tag = sealed[:-16], sealed[-16:]
    fields = {
        "authenticationTag": encode(tag),
        "ciphertext": encode(ciphertext),
        "ciphertextMetadata": encode(metadata),
        "initializationVector": encode(iv),
    }
    if integrity:
        digest = hashlib.sha256(aad + metadata + iv + ciphertext + tag).digest()
        fields["ciphertextDataIntegrityValue"] = encode(digest)
    return fields


def decrypt(key: AESGCM, request: Request) -> Request:
    require_algorithm(request)
    try:
        aad = optional_bytes(request, "additionalAuthenticatedData", MOST_AAD)
        ciphertext = required_bytes(request, "ciphertext", MOST_PLAINTEXT)
        metadata = optional_bytes(request, "ciphertextMetadata")
        iv = required_bytes(request, "initializationVector")
        tag = required_bytes(request, "authenticationTag")
    except NotBytes as refusal:
        raise Refused("InvalidCiphertextException", str(refusal)) from None
    if len(iv) not in (12, 16) or len(tag) != 16:
        raise Refused("InvalidCiphertextException", "the IV has 12 or 16 bytes, and the tag 16")
    if metadata != bytes([FORMAT]) + GENERATION.to_bytes(4, "big"):
        raise Refused("InvalidCiphertextException", "the ciphertext is none of this proxy")
    try:
        return {"plaintext": encode(key.decrypt(iv, ciphertext + tag, hsm_aad(aad, metadata)))}
    except InvalidTag:
        raise Refused("InvalidCiphertextException", "the ciphertext does not open") from None


def hsm_aad(aad: bytes, metadata: bytes) -> bytes:
    return len(aad).to_bytes(2, "big") + aad + bytes([len(metadata)]) + metadata


# === Signature: Appendix A ===


def authenticate(store: KeyStore, path: str, headers: Any, body: bytes) -> None:
    parts = AUTHORIZATION.fullmatch(headers.get("Authorization", ""))
    if parts is None:
        raise unauthenticated("there is no signature of the right form")
    access_key, day, region, names, signature = parts.groups()
    when = headers.get("X-Amz-Date", "")
    if store.region != region or not is_recent(when) or not when.startswith(day):
        raise unauthenticated("the region or the time is wrong")
    signed = names.split(";")
    if signed != sorted(set(signed)) or not {"host", "x-amz-date"} <= set(signed):
        raise unauthenticated("host and x-amz-date have to be signed")
    lines = [f"{name}:{' '.join(headers.get(name, '').split())}\n" for name in signed]
    digest = hashlib.sha256(body).hexdigest()
    canonical = "\n".join(["POST", path, "", "".join(lines), names, digest])
    scope = f"{day}/{region}/kms-xks-proxy/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{when}\n{scope}\n{hashed}"
    key = f"AWS4{store.credentials.get(access_key, '')}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    expected = hmac.new(key, to_sign.encode(), "sha256").hexdigest()
    if access_key not in store.credentials or not hmac.compare_digest(expected, signature):
        raise unauthenticated("the signature is wrong")


def is_recent(when: str) -> bool:
    try:
        time = datetime.datetime.strptime(when, "%Y%m%dT%H%M%SZ")
    except ValueError:
        return False
    now = datetime.datetime.now(datetime.timezone.utc)
    return abs(now - time.replace(tzinfo=datetime.timezone.utc)) <= MOST_SKEW


def unauthenticated(message: str) -> Refused:
    return Refused("AuthenticationFailedException", message)


# === Fields ===


def parse(body: bytes) -> Request:
    try:
        request = json.loads(body)
    except ValueError:
        raise Refused("ValidationException", "the body is no JSON") from None
    if not isinstance(request, dict):
        raise Refused("ValidationException", "the body is no JSON object")
    return request


def require_algorithm(request: Request) -> None:
    if required(request, "encryptionAlgorithm", str) != "AES_GCM":
        raise Refused("ValidationException", "the algorithm is not AES_GCM")


def required(fields: Request, name: str, kind: type) -> Any:
    value = fields.get(name)
    if not isinstance(value, kind) or not value and kind is str:
        raise Refused("ValidationException", f"{name} is missing, or of the wrong type")
    return value


def required_bytes(fields: Request, name: str, most: int | None = None) -> bytes:
    text = fields.get(name)
    if text is not None and not isinstance(text, str):
        raise Refused("ValidationException", f"{name} is of the wrong type")
    try:
        value = base64.b64decode(text or "", validate=True)
    except ValueError:
        raise NotBytes(name) from None
    if encode(value) != text:
        raise NotBytes(name)
    if most is not None and len(value) > most:
        raise Refused("UnsupportedOperationException", f"{name} is too long")
    return value


def optional_bytes(fields: Request, name: str, most: int | None = None) -> bytes:
    return b"" if fields.get(name) is None else required_bytes(fields, name, most)


class NotBytes(Refused):
    """The field is missing, or no base64 in its one spelling."""

    def __init__(self, name: str) -> None:
        super().__init__("ValidationException", f"{name} is no base64")


def encode(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


# === Over HTTPS ===


@dataclass
class Raw:
    """An answer as it goes out."""

    status: int
    body: bytes
    content_type: str = "application/json"


# Changes what goes out, or waits, in tests of who calls: gets the path and the
# answer.
Fault = Callable[[str, Raw], Raw | None]


class Proxy(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, store: KeyStore, certificate: Path, key: Path, client_ca: Path | None = None
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.store = store
        self.fault: Fault | None = None
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        if client_ca is not None:
            tls.load_verify_locations(client_ca)
            tls.verify_mode = ssl.CERT_REQUIRED
        # The handshake is made by the thread of the connection.
        self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, *_: Any) -> None:
        """A client that goes away is none."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: Proxy

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            fields, status = answer(self.server.store, self.path, self.headers, body), 200
        except Refused as refusal:
            fields = {"errorName": refusal.name, "errorMessage": str(refusal)}
            status = STATUS[refusal.name]
        raw: Raw | None = Raw(status, json.dumps(fields).encode())
        if self.server.fault is not None:
            raw = self.server.fault(self.path, raw)
        self._send(raw)

    def _send(self, raw: Raw | None) -> None:
        if raw is None:
            self.close_connection = True
            return
        self.send_response(raw.status)
        self.send_header("Content-Type", raw.content_type)
        self.send_header("Content-Length", str(len(raw.body)))
        self.end_headers()
        self.wfile.write(raw.body)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text())
    keys = {name: bytes.fromhex(key) for name, key in config["keys"].items()}
    store = KeyStore(config["path"], config["region"], config["credentials"], keys)
    proxy = Proxy(store, Path(config["certificate"]), Path(config["key"]))
    print(f"127.0.0.1:{proxy.server_port}", flush=True)
    proxy.serve_forever()


if __name__ == "__main__":
    main()
