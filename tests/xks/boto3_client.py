"""Makes a key store and two keys with boto3, and uses them in every way. Takes
the request that creates the key store; prints the first key's ARN.

    python3 boto3_client.py CREATE_CUSTOM_KEY_STORE
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import boto3

CONTEXT = {"object": "report.md", "tenant": "blue"}
kms = boto3.client("kms")


def main() -> None:
    store = kms.create_custom_key_store(**json.loads(sys.argv[1]))["CustomKeyStoreId"]
    kms.connect_custom_key_store(CustomKeyStoreId=store)
    wait_for_connection(store)
    key, other = (create_key(store, f"external-key-{number}") for number in (1, 2))
    assert [entry["KeyArn"] for entry in kms.list_keys()["Keys"]] == [key, other]

    check_data_keys(key)
    check_encryption(key, other)
    check_disabling(key)
    json.dump({"key": key}, sys.stdout)


def wait_for_connection(store: str) -> None:
    while True:
        entry = kms.describe_custom_key_stores(CustomKeyStoreId=store)["CustomKeyStores"][0]
        if entry["ConnectionState"] != "CONNECTING":
            assert entry["ConnectionState"] == "CONNECTED", entry
            return
        time.sleep(0.05)


def create_key(store: str, external_id: str) -> str:
    metadata = kms.create_key(
        Origin="EXTERNAL_KEY_STORE", CustomKeyStoreId=store, XksKeyId=external_id
    )["KeyMetadata"]
    assert metadata["XksKeyConfiguration"] == {"Id": external_id}, metadata
    assert kms.describe_key(KeyId=metadata["KeyId"])["KeyMetadata"] == metadata
    return metadata["Arn"]


def check_data_keys(key: str) -> None:
    made = kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT)
    blob = made["CiphertextBlob"]
    assert (
        kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)["Plaintext"]
        == made["Plaintext"]
    )
    try:
        kms.decrypt(CiphertextBlob=blob, EncryptionContext={**CONTEXT, "tenant": "red"})
        raise AssertionError("another context opened it")
    except kms.exceptions.KMSInvalidStateException as error:
        assert "external key store proxy" in str(error), error
    alone = kms.generate_data_key_without_plaintext(KeyId=key, NumberOfBytes=64)
    assert len(kms.decrypt(CiphertextBlob=alone["CiphertextBlob"])["Plaintext"]) == 64


def check_encryption(key: str, other: str) -> None:
    for plaintext in (b"\0", bytes(range(256)) * 16):
        blob = kms.encrypt(KeyId=key, Plaintext=plaintext, EncryptionContext=CONTEXT)
        blob = kms.re_encrypt(
            CiphertextBlob=blob["CiphertextBlob"],
            SourceEncryptionContext=CONTEXT,
            DestinationKeyId=other,
        )
        # And back: each key is a source and a destination.
        blob = kms.re_encrypt(CiphertextBlob=blob["CiphertextBlob"], DestinationKeyId=key)
        opened: dict[str, Any] = kms.decrypt(CiphertextBlob=blob["CiphertextBlob"], KeyId=key)
        assert opened["Plaintext"] == plaintext and opened["KeyId"] == key


def check_disabling(key: str) -> None:
    blob = kms.encrypt(KeyId=key, Plaintext=b"a")["CiphertextBlob"]
    kms.disable_key(KeyId=key)
    try:
        kms.decrypt(CiphertextBlob=blob)
        raise AssertionError("a disabled key opened it")
    except kms.exceptions.DisabledException:
        kms.enable_key(KeyId=key)
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"a"


if __name__ == "__main__":
    main()
