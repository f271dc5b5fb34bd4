"""Files by Tink for Python: streaming AEAD, AES-256-GCM in segments of 1 MiB.

    tink_files.py keys KEYSET                   makes a keyset
    tink_files.py encrypt|decrypt KEYSET FROM TO   FROM and TO are files, or folders
"""

import pathlib
import sys

import tink
from tink import secret_key_access, streaming_aead

from files import copy, pairs


def main():
    verb, keyset, *places = sys.argv[1:]
    streaming_aead.register()
    if verb == "keys":
        return make_keyset(pathlib.Path(keyset))
    text = pathlib.Path(keyset).read_text()
    handle = tink.json_proto_keyset_format.parse(text, secret_key_access.TOKEN)
    primitive = handle.primitive(streaming_aead.StreamingAead)
    crypt = encrypt if verb == "encrypt" else decrypt
    for source, target in pairs(*places):
        with open(source, "rb") as reader, open(target, "xb") as writer:
            crypt(primitive, reader, writer)


def make_keyset(path):
    template = streaming_aead.streaming_aead_key_templates.AES256_GCM_HKDF_1MB
    handle = tink.new_keyset_handle(template)
    path.write_text(tink.json_proto_keyset_format.serialize(handle, secret_key_access.TOKEN))


def encrypt(primitive, reader, writer):
    with primitive.new_encrypting_stream(writer, b"") as to:
        copy(reader, to)


def decrypt(primitive, reader, writer):
    with primitive.new_decrypting_stream(reader, b"") as plain:
        copy(plain, writer)


if __name__ == "__main__":
    main()
