"""The AWS Encryption SDK with keyrings of KMS: encrypts under two keys, and
decrypts with each alone.

    python3 encryption_sdk.py KEY_ARN OTHER_KEY_ARN
"""

from __future__ import annotations

import json
import os
import sys

import aws_encryption_sdk
import boto3
from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig
from aws_cryptographic_material_providers.mpl.models import (
    CreateAwsKmsKeyringInput,
    CreateAwsKmsMultiKeyringInput,
)
from aws_cryptographic_material_providers.mpl.references import IKeyring
from aws_encryption_sdk.exceptions import AWSEncryptionSDKClientError

CONTEXT = {"object": "report.md", "tenant": "blue"}

kms = boto3.client("kms")
providers = AwsCryptographicMaterialProviders(MaterialProvidersConfig())
sdk = aws_encryption_sdk.EncryptionSDKClient()


def main() -> None:
    first, second = sys.argv[1:]
    plaintext = os.urandom(100_000)
    message, _ = sdk.encrypt(
        source=plaintext, keyring=both(first, second), encryption_context=CONTEXT
    )
    opened = all(decrypt(message, one(key), CONTEXT) == plaintext for key in (first, second))
    # The context lies in the message, and is the AAD of the data keys in it.
    context = {**CONTEXT, "tenant": "cyan"}
    altered = message.replace(b"blue", b"cyan")
    refused = [refusal(altered, one(key), context) for key in (first, second)]
    json.dump({"opened": opened, "refused": refused}, sys.stdout)


def one(key: str) -> IKeyring:
    return providers.create_aws_kms_keyring(
        CreateAwsKmsKeyringInput(kms_key_id=key, kms_client=kms)
    )


def both(key: str, other: str) -> IKeyring:
    """The first makes the data key, and the second encrypts it, too."""
    request = CreateAwsKmsMultiKeyringInput(generator=key, kms_key_ids=[other])
    return providers.create_aws_kms_multi_keyring(request)


def decrypt(message: bytes, keyring: IKeyring, context: dict[str, str]) -> bytes:
    return sdk.decrypt(source=message, keyring=keyring, encryption_context=context)[0]


def refusal(message: bytes, keyring: IKeyring, context: dict[str, str]) -> str | None:
    try:
        decrypt(message, keyring, context)
    except AWSEncryptionSDKClientError as error:
        return str(error)
    return None


if __name__ == "__main__":
    main()
