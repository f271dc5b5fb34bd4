"""An issuer of tokens for one machine: its documents as files, which any web
server can serve, and tokens for whoever asks for them.

    python3 demo_issuer.py init FOLDER URL              makes a key and the documents
    python3 demo_issuer.py token FOLDER AUDIENCE USER   prints a token for an hour

A real issuer has people prove who they are first.
"""

import base64
import json
import pathlib
import sys
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

KEY_ID = "demo"


def main(verb, folder, *rest):
    {"init": init, "token": token}[verb](pathlib.Path(folder), *rest)


def init(folder, url):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    keep(folder, key)
    public = key.public_key().public_numbers()
    jwk = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID}
    jwk |= {"n": number(public.n), "e": number(public.e)}
    documents = folder / "public"
    (documents / ".well-known").mkdir(parents=True)
    metadata = {"issuer": url, "jwks_uri": f"{url}/keys"}
    (documents / ".well-known/openid-configuration").write_text(json.dumps(metadata))
    (documents / "keys").write_text(json.dumps({"keys": [jwk]}))
    (folder / "url").write_text(url)


def token(folder, audience, user):
    key = serialization.load_pem_private_key((folder / "key.pem").read_bytes(), None)
    now = int(time.time())
    header = {"typ": "JWT", "alg": "RS256", "kid": KEY_ID}
    claims = {"iss": (folder / "url").read_text(), "aud": audience, "sub": user, "upn": user}
    claims |= {"iat": now, "nbf": now, "exp": now + 3600}
    signed = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
    signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    print(f"{signed}.{base64url(signature)}")


def keep(folder, key):
    path = folder / "key.pem"
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def number(value):
    return base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


main(*sys.argv[1:])
