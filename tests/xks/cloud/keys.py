"""KMS keys. Each has key material of its own at the provider's side, which
encrypts first and decrypts last."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from errors import KmsError
from proxy import IV_LENS, MOST_METADATA, TAG_LEN, Sealed
from stores import KeyStore, State

BLOB_VERSION = 1
NONCE_LEN = 12
MOST_AAD = 8192
DAY = 24 * 60 * 60

Context = dict[str, str]


class Key:
    def __init__(self, key_id: str, arn: str, store: KeyStore, external_id: str, description: str):
        self.id, self.arn, self.store = key_id, arn, store
        self.external_id, self.description = external_id, description
        self.created, self.enabled = time.time(), True
        self.deletion_date: float | None = None
        self._material = AESGCM(AESGCM.generate_key(256))

    def seal(self, plaintext: bytes, context: Context) -> bytes:
        nonce = os.urandom(NONCE_LEN)
        return nonce + self._material.encrypt(nonce, plaintext, self._inner_aad(context))

    def open(self, inner: bytes, context: Context) -> bytes:
        nonce, ciphertext = inner[:NONCE_LEN], inner[NONCE_LEN:]
        try:
            return self._material.decrypt(nonce, ciphertext, self._inner_aad(context))
        except (InvalidTag, ValueError) as error:
            message = "what the external key store proxy decrypted is no ciphertext of this key"
            raise KmsError("KMSInvalidStateException", message) from error

    def _inner_aad(self, context: Context) -> bytes:
        return self.arn.encode() + encode_context(context)

    def blob(self, outer: Sealed) -> bytes:
        """What clients get: version (1), key id (16), then metadata and IV with
        a length (1) each, tag (16), ciphertext."""
        head = bytes([BLOB_VERSION]) + uuid.UUID(self.id).bytes
        fields = [bytes([len(value)]) + value for value in (outer.metadata, outer.iv)]
        return b"".join([head, *fields, outer.tag, outer.ciphertext])

    # === State ===

    def state(self) -> str:
        if self.deletion_date is not None:
            return "PendingDeletion"
        if self.store.state is not State.CONNECTED:
            return "Unavailable"
        return "Enabled" if self.enabled else "Disabled"

    def require_usable(self) -> None:
        state = self.state()
        if state == "Disabled":
            raise KmsError("DisabledException", f"{self.arn} is disabled")
        if state != "Enabled":
            raise KmsError("KMSInvalidStateException", f"{self.arn} is {state}")

    def set_enabled(self, enabled: bool) -> None:
        self._is_not_pending_deletion()
        self.enabled = enabled

    def schedule_deletion(self, days: int) -> None:
        self._is_not_pending_deletion()
        self.deletion_date = time.time() + days * DAY

    def cancel_deletion(self) -> None:
        """It comes back disabled."""
        if self.deletion_date is None:
            raise KmsError("KMSInvalidStateException", f"{self.arn} is not pending deletion")
        self.deletion_date, self.enabled = None, False

    def _is_not_pending_deletion(self) -> None:
        if self.deletion_date is not None:
            raise KmsError("KMSInvalidStateException", f"{self.arn} is pending deletion")

    def describe(self) -> dict[str, Any]:
        return {
            "AWSAccountId": self.arn.split(":")[4],
            "KeyId": self.id,
            "Arn": self.arn,
            "CreationDate": self.created,
            "Enabled": self.state() == "Enabled",
            "Description": self.description,
            "KeyUsage": "ENCRYPT_DECRYPT",
            "KeyState": self.state(),
            "Origin": "EXTERNAL_KEY_STORE",
            "CustomKeyStoreId": self.store.id,
            "KeyManager": "CUSTOMER",
            "KeySpec": "SYMMETRIC_DEFAULT",
            "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
            "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
            "MultiRegion": False,
            "XksKeyConfiguration": {"Id": self.external_id},
            **({"DeletionDate": self.deletion_date} if self.deletion_date else {}),
        }


class KeyRing:
    """All keys, by id, ARN or alias."""

    def __init__(self, region: str, account: str) -> None:
        self._prefix = f"arn:aws:kms:{region}:{account}:"
        self._keys: dict[str, Key] = {}
        self._aliases: dict[str, Key] = {}

    def __iter__(self) -> Iterator[Key]:
        return iter(list(self._keys.values()))

    def add(self, store: KeyStore, external_id: str, description: str) -> Key:
        key_id = str(uuid.uuid4())
        key = Key(key_id, f"{self._prefix}key/{key_id}", store, external_id, description)
        self._keys[key_id] = key
        return key

    def of_store(self, store: KeyStore) -> list[Key]:
        return [key for key in self if key.store is store]

    def find(self, name: str) -> Key:
        local = name.removeprefix(self._prefix)
        key = self._aliases.get(local) or self._keys.get(local.removeprefix("key/"))
        if key is None:
            raise KmsError("NotFoundException", f"there is no key {name}")
        return key

    def add_alias(self, alias: str, target: str) -> None:
        if not alias.startswith("alias/") or alias.startswith("alias/aws/"):
            raise KmsError("ValidationException", f"{alias} is no name of an alias")
        if alias in self._aliases:
            raise KmsError("AlreadyExistsException", f"{self._prefix}{alias} exists")
        self._aliases[alias] = self.find(target)

    def describe_aliases(self, of: Key | None) -> list[dict[str, Any]]:
        return [
            {"AliasName": alias, "AliasArn": f"{self._prefix}{alias}", "TargetKeyId": key.id}
            for alias, key in self._aliases.items()
            if of is None or key is of
        ]


def opened_blob(blob: bytes) -> tuple[str, Sealed]:
    """The key's id, and what its proxy gave. See `Key.blob`."""
    if len(blob) < 17 or blob[0] != BLOB_VERSION:
        raise not_a_blob()
    key_id, rest = str(uuid.UUID(bytes=blob[1:17])), blob[17:]
    fields = []
    for lengths in (range(MOST_METADATA + 1), IV_LENS):
        if not rest or rest[0] not in lengths or len(rest) <= rest[0]:
            raise not_a_blob()
        fields.append(rest[1 : 1 + rest[0]])
        rest = rest[1 + rest[0] :]
    if len(rest) < TAG_LEN:
        raise not_a_blob()
    return key_id, Sealed(*fields, rest[:TAG_LEN], rest[TAG_LEN:])


def not_a_blob() -> KmsError:
    return KmsError("InvalidCiphertextException", "the ciphertext is none of this cloud")


def encode_context(context: Context) -> bytes:
    """Sorted by key; each text after its length in two bytes. No pairs, no
    bytes."""
    texts = [text.encode() for pair in sorted(context.items()) for text in pair]
    if any(len(text) > MOST_AAD for text in texts):
        raise context_too_long()
    encoded = b"".join(len(text).to_bytes(2, "big") + text for text in texts)
    if len(encoded) > MOST_AAD:
        raise context_too_long()
    return encoded


def context_too_long() -> KmsError:
    return KmsError("ValidationException", f"the encryption context is longer than {MOST_AAD}")
