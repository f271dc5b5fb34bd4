"""The four operations of a proxy, as AWS KMS calls them. Nothing in an answer
is believed that was not checked.

XKS Proxy API Specification v1.0.3.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from botocore.credentials import Credentials

from errors import PROXY_ERRORS, ProxyFailure
from network import Answer, Network

HEALTH_STATUSES = {"ACTIVE", "DEGRADED", "UNAVAILABLE"}
MOST_METADATA = 20
MOST_FLEET_DETAILS = 10
MOST_KEY_USAGES = 10
TAG_LEN = 16
IV_LENS = {12, 16}


@dataclass(frozen=True)
class Configuration:
    """What a key store knows of its proxy."""

    endpoint: str
    path: str
    access_key_id: str
    secret: str


@dataclass(frozen=True)
class Sealed:
    """What the proxy made of a plaintext."""

    metadata: bytes
    iv: bytes
    tag: bytes
    ciphertext: bytes

    def integrity_value(self, aad: bytes) -> bytes:
        """CDIV, Appendix C: a hash of all fields, without lengths."""
        fields = (aad, self.metadata, self.iv, self.ciphertext, self.tag)
        return hashlib.sha256(b"".join(fields)).digest()


@dataclass(frozen=True)
class KeyFacts:
    spec: str
    usage: list[str]
    status: str


class Proxy:
    """The proxy of one key store. `caller` is the requestMetadata of a call."""

    def __init__(self, network: Network, region: str, configuration: Configuration) -> None:
        self._network, self._region, self._at = network, region, configuration

    def health(self, caller: dict[str, str]) -> None:
        """Succeeds if at least one of the key managers can be used."""
        answer = self._call("health", {"requestMetadata": caller})
        details = checked_health(answer)
        if all(entry["healthStatus"] == "UNAVAILABLE" for entry in details):
            raise ProxyFailure("Unhealthy", "all key managers are UNAVAILABLE")

    def key_facts(self, key: str, caller: dict[str, str]) -> KeyFacts:
        answer = self._call(f"keys/{key}/metadata", {"requestMetadata": caller})
        return checked_key_facts(answer)

    def encrypt(self, key: str, caller: dict[str, str], plaintext: bytes, aad: bytes) -> Sealed:
        request = {
            "requestMetadata": caller,
            "plaintext": encode(plaintext),
            "encryptionAlgorithm": "AES_GCM",
            "ciphertextDataIntegrityValueAlgorithm": "SHA_256",
            **({"additionalAuthenticatedData": encode(aad)} if aad else {}),
        }
        answer = self._call(f"keys/{key}/encrypt", request)
        sealed = checked_sealed(answer, len(plaintext))
        if field(answer, "ciphertextDataIntegrityValue") != sealed.integrity_value(aad):
            raise wrong("the integrity value is not that of the ciphertext")
        return sealed

    def decrypt(self, key: str, caller: dict[str, str], sealed: Sealed, aad: bytes) -> bytes:
        optional = {"additionalAuthenticatedData": aad, "ciphertextMetadata": sealed.metadata}
        request = {
            "requestMetadata": caller,
            "ciphertext": encode(sealed.ciphertext),
            "encryptionAlgorithm": "AES_GCM",
            "initializationVector": encode(sealed.iv),
            "authenticationTag": encode(sealed.tag),
            **{name: encode(value) for name, value in optional.items() if value},
        }
        plaintext = field(self._call(f"keys/{key}/decrypt", request), "plaintext")
        if len(plaintext) != len(sealed.ciphertext):
            raise wrong("the plaintext is not as long as the ciphertext")
        return plaintext

    def _call(self, path: str, request: dict[str, Any]) -> dict[str, Any]:
        url = f"{self._at.endpoint}{self._at.path}/{path}"
        log = {"url": url, "request": request}
        credentials = Credentials(self._at.access_key_id, self._at.secret)
        try:
            body = json.dumps(request, separators=(",", ":")).encode()
            answer = self._network.post(url, body, credentials, self._region)
            log |= {"status": answer.status, "response": answer.body.decode("utf-8", "replace")}
            return checked_answer(answer)
        except ProxyFailure as failure:
            log["failure"] = str(failure)
            raise
        finally:
            self._network.log.write("proxy", **log)


# === Answers ===


def checked_answer(answer: Answer) -> dict[str, Any]:
    """The fields of a success; an error is raised."""
    if answer.content_type.split(";")[0].strip().lower() != "application/json":
        raise wrong(f"content type {answer.content_type!r}")
    try:
        fields = json.loads(answer.body, object_pairs_hook=without_duplicates)
    except ValueError as error:
        raise wrong("no JSON") from error
    if not isinstance(fields, dict) or b"\n" in answer.body.strip():
        raise wrong("no JSON object of one line")
    if answer.status != 200:
        raise checked_error(answer.status, fields)
    return fields


def checked_error(status: int, fields: dict[str, Any]) -> ProxyFailure:
    name, message = fields.get("errorName"), fields.get("errorMessage", "")
    if PROXY_ERRORS.get(name) != status:
        return wrong(f"status {status} with the error name {name!r}")
    if not isinstance(message, str) or not re.fullmatch(r"[\x20-\x7e]{0,511}", message):
        return wrong("an error message that is too long, or not printable ASCII")
    return ProxyFailure(name, message)


def checked_health(answer: dict[str, Any]) -> list[dict[str, Any]]:
    size, details = answer.get("xksProxyFleetSize"), answer.get("ekmFleetDetails")
    if type(size) is not int or size < 1:
        raise wrong("xksProxyFleetSize")
    texts(answer, "xksProxyVendor", "xksProxyModel", "ekmVendor")
    if not isinstance(details, list) or not 1 <= len(details) <= MOST_FLEET_DETAILS:
        raise wrong("ekmFleetDetails")
    for entry in details:
        texts(entry, "id", "model", "healthStatus")
        if entry["healthStatus"] not in HEALTH_STATUSES:
            raise wrong("healthStatus")
    if len({entry["id"] for entry in details}) != len(details):
        raise wrong("two entries of ekmFleetDetails with the same id")
    return details


def checked_key_facts(answer: dict[str, Any]) -> KeyFacts:
    texts(answer, "keySpec", "keyStatus")
    usage = answer.get("keyUsage")
    if not isinstance(usage, list) or not all(isinstance(entry, str) for entry in usage):
        raise wrong("keyUsage")
    if len(usage) > MOST_KEY_USAGES or answer["keyStatus"] not in {"ENABLED", "DISABLED"}:
        raise wrong("keyUsage or keyStatus")
    return KeyFacts(answer["keySpec"], usage, answer["keyStatus"])


def checked_sealed(answer: dict[str, Any], plaintext_len: int) -> Sealed:
    metadata = field(answer, "ciphertextMetadata") if "ciphertextMetadata" in answer else b""
    names = ("initializationVector", "authenticationTag", "ciphertext")
    sealed = Sealed(metadata, *(field(answer, name) for name in names))
    if len(sealed.iv) not in IV_LENS or len(sealed.tag) != TAG_LEN:
        raise wrong("the length of the IV or of the tag")
    if len(metadata) > MOST_METADATA or len(sealed.ciphertext) != plaintext_len:
        raise wrong("the length of the metadata or of the ciphertext")
    return sealed


def field(answer: dict[str, Any], name: str) -> bytes:
    """Standard base64 with padding (RFC 4648 section 4), spelt in the one way."""
    text = answer.get(name)
    try:
        value = base64.b64decode(text, validate=True)
    except (TypeError, ValueError) as error:
        raise wrong(f"{name} is no base64") from error
    if encode(value) != text:
        raise wrong(f"{name} is not the usual base64 of what it means")
    return value


def texts(answer: Any, *names: str) -> None:
    for name in names:
        value = answer.get(name) if isinstance(answer, dict) else None
        if not isinstance(value, str) or not value:
            raise wrong(f"{name} is no text")


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands twice")
    return fields


def encode(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def wrong(why: str) -> ProxyFailure:
    return ProxyFailure("InvalidResponse", why)
