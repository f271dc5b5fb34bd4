"""Files by the AWS Encryption SDK for Python with a raw AES keyring.

    esdk.py encrypt|decrypt KEY FROM TO     FROM and TO are files, or folders

Committing and without signatures, in frames of 256 KiB: faster than the frames
of 4 KiB that it makes by default.
"""

import pathlib
import sys

import aws_encryption_sdk
from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig
from aws_cryptographic_material_providers.mpl.models import AesWrappingAlg, CreateRawAesKeyringInput

from files import copy, pairs

FRAME_LEN = 256 << 10


def main():
    verb, key, source, target = sys.argv[1:]
    client = aws_encryption_sdk.EncryptionSDKClient()
    ring = keyring(pathlib.Path(key).read_bytes())
    for source, target in pairs(source, target):
        with open(source, "rb") as plain, open(target, "xb") as to:
            with stream(client, verb, plain, ring) as reader:
                copy(reader, to)


def keyring(key):
    providers = AwsCryptographicMaterialProviders(config=MaterialProvidersConfig())
    return providers.create_raw_aes_keyring(
        input=CreateRawAesKeyringInput(
            key_namespace="bench",
            key_name="peers",
            wrapping_key=key,
            wrapping_alg=AesWrappingAlg.ALG_AES256_GCM_IV12_TAG16,
        )
    )


def stream(client, verb, source, ring):
    if verb == "decrypt":
        return client.stream(mode="d", source=source, keyring=ring)
    return client.stream(
        mode="e",
        source=source,
        keyring=ring,
        frame_length=FRAME_LEN,
        algorithm=aws_encryption_sdk.Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY,
    )


if __name__ == "__main__":
    main()
