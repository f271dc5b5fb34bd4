"""Who keeps the KEKs, and how this reader reaches them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, unquote_to_bytes

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from refusal import HolderFailed

HOLDERS_AEAD = 1
RSA_OAEP_SHA_256 = 2


class Holder(Protocol):
    """Who keeps a KEK. It sees a wrapped share and never the other one."""

    algorithms: frozenset[int]

    def unwrap_share(self, wrapped: bytes, algorithm: int, aad: bytes) -> bytes: ...


class FileHolder:
    """An AES-256 key in a file: a first word, and hexadecimal."""

    algorithms = frozenset({HOLDERS_AEAD})

    def __init__(self, path: Path) -> None:
        word, digits = path.read_text().split()
        self.kek = bytes.fromhex(digits)
        if word != "twinlock-file-kek-v1" or len(self.kek) != 32:
            raise ValueError(f"not a key file: {path}")

    def unwrap_share(self, wrapped: bytes, algorithm: int, aad: bytes) -> bytes:
        try:
            return AESGCM(self.kek).decrypt(wrapped[:12], wrapped[12:], aad)
        except (InvalidTag, ValueError):
            raise HolderFailed("the key file does not unwrap its share") from None


class TokenHolder:
    """A key in a PKCS#11 token: an AES key, or the private half of an RSA key."""

    algorithms = frozenset({HOLDERS_AEAD, RSA_OAEP_SHA_256})

    def __init__(self, module: Path, pin: str, uri: str) -> None:
        self.module, self.pin = module, pin
        self.token, self.key = token_and_key(uri)

    def unwrap_share(self, wrapped: bytes, algorithm: int, aad: bytes) -> bytes:
        import pkcs11

        try:
            token = pkcs11.lib(str(self.module)).get_token(**self.token)
            with token.open(user_pin=self.pin) as session:
                if algorithm == HOLDERS_AEAD:
                    return self.unwrap_gcm(session, wrapped, aad)
                return self.unwrap_oaep(session, wrapped)
        except (pkcs11.PKCS11Error, RuntimeError) as error:
            raise HolderFailed(f"the token: {type(error).__name__}") from None

    def unwrap_gcm(self, session: Any, wrapped: bytes, aad: bytes) -> bytes:
        from pkcs11 import GCMParams, Mechanism, ObjectClass

        key = session.get_key(object_class=ObjectClass.SECRET_KEY, **self.key)
        params = GCMParams(wrapped[:12], aad, 128)
        return bytes(key.decrypt(wrapped[12:], mechanism=Mechanism.AES_GCM, mechanism_param=params))

    def unwrap_oaep(self, session: Any, wrapped: bytes) -> bytes:
        from pkcs11 import MGF, ArgumentsBad, Mechanism, MechanismInvalid
        from pkcs11 import MechanismParamInvalid, ObjectClass

        key = session.get_key(object_class=ObjectClass.PRIVATE_KEY, **self.key)
        params = (Mechanism.SHA256, MGF.SHA256, None)
        oaep, raw = Mechanism.RSA_PKCS_OAEP, Mechanism.RSA_X_509
        try:
            return bytes(key.decrypt(wrapped, mechanism=oaep, mechanism_param=params))
        except (ArgumentsBad, MechanismInvalid, MechanismParamInvalid):
            # This token has OAEP with SHA-1 only, or none.
            return without_oaep(bytes(key.decrypt(wrapped, mechanism=raw)), len(wrapped))


def without_oaep(padded: bytes, modulus_len: int) -> bytes:
    """The message in an OAEP block (RFC 8017 section 7.1.2 step 3, SHA-256, no
    label). Not in constant time, like everything here."""
    padded = padded.rjust(modulus_len, b"\0")
    label_hash = hashlib.sha256(b"").digest()
    masked_seed, masked_block = padded[1:33], padded[33:]
    seed = xor(masked_seed, mgf1(masked_block, len(masked_seed)))
    block = xor(masked_block, mgf1(seed, len(masked_block)))
    zeros, one, message = block[len(label_hash) :].partition(b"\1")
    if padded[0] != 0 or not block.startswith(label_hash) or any(zeros) or not one:
        raise HolderFailed("the token's key does not unwrap its share")
    return message


def mgf1(seed: bytes, length: int) -> bytes:
    """RFC 8017 appendix B.2.1, with SHA-256."""
    blocks = range((length + 31) // 32)
    mask = b"".join(hashlib.sha256(seed + i.to_bytes(4, "big")).digest() for i in blocks)
    return mask[:length]


def xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def token_and_key(uri: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What an RFC 7512 URI says of the token, and what of the key in it."""
    scheme, _, path = uri.partition(":")
    token: dict[str, Any] = {}
    key: dict[str, Any] = {}
    for attribute in path.split(";"):
        name, _, value = attribute.partition("=")
        match name:
            case "token":
                token["token_label"] = unquote(value)
            case "serial":
                token["token_serial"] = unquote_to_bytes(value)
            case "object":
                key["label"] = unquote(value)
            case "id":
                key["id"] = unquote_to_bytes(value)
            case _:
                raise SystemExit(f"cannot find a key by {name!a}, in {uri}")
    if scheme != "pkcs11" or not key:
        raise SystemExit(f"names no key in a token: {uri}")
    return token, key
