#!/usr/bin/env python3
"""The DKE service under load, beside what its token does without it.

    benches/dke.py [--seconds N] [--rounds N] [--cases WORD,...]

Makes a SoftHSM token with an RSA-2048 key in a folder of its own, an issuer of
tokens, and starts the release build of `twinlock-dke` on a loopback address without
TLS; the load comes from all processors but the first, on connections that stay.
The limit, raw RSA decryptions of one PKCS#11 session with nothing around it, is
measured in the same run, in turns. Medians of the rounds.

Needs SoftHSM (softhsm2-util), OpenSC (pkcs11-tool), OpenSSL, and the release
builds of `twinlock-dke`, `twinlock`, `dke_load` and the example `rsa_throughput`,
which it builds.
"""

import base64
import http.server
import json
import os
import subprocess
import threading
import time

from xks import MODULE, PIN, TARGET, Bench, Case, Group, arguments_of, build_all, print_head

USER = "alice@example.org"
ORIGIN = "https://dke.test"
PLAINTEXT = b"a content key of Microsoft 365.."


def main():
    arguments = arguments_of(__doc__)
    if not arguments.no_build:
        build_all(
            ["-p", "twinlock-dke"],
            ["-p", "twinlock-cli"],
            ["-p", "twinlock-benches", "--bin", "dke_load"],
            ["-p", "twinlock-pkcs11", "--example", "rsa_throughput"],
        )
    print_head()
    for group in GROUPS:
        group.run(DkeBench, arguments)


class Served(Group):
    """Cases of a service that is kept to some processors, if not to none."""

    def __init__(self, processors, cases):
        super().__init__(cases)
        self.processors = processors


GROUPS = [
    Served(None, [
        Case("Decrypt", "decrypt", (4, 16), "decrypt", "0.90 or more"),
        Case("The public key", "key", (16,), "livez"),
    ]),
    # With the token on one processor, and so is the limit.
    Served({0}, [
        Case("Decrypt, on one processor", "decrypt", (4, 16), "decrypt", "CPU above: a tenth of the limit's"),
    ]),
]


class DkeBench(Bench):
    """A service with one key and one session, and an issuer."""

    program = "twinlock-dke"
    example = "rsa_throughput"
    load_processors = set(range(1, os.cpu_count())) or {0}

    def __init__(self, group):
        super().__init__(group)
        self.processors = group.processors

    def make_keys(self):
        self.openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "issuer.pem")
        self.quietly(TARGET / "release/twinlock", "keys", "create", "--type", "rsa-2048", self.uri("key"))
        self.quietly("pkcs11-tool", "--module", MODULE, "--token-label", "bench", "--label", "key",
                     "--read-object", "--type", "pubkey", "--output-file", self.path / "key.der")
        (self.path / "plaintext").write_bytes(PLAINTEXT)
        oaep = [option for name in ("rsa_padding_mode:oaep", "rsa_oaep_md:sha256") for option in ("-pkeyopt", name)]
        self.ciphertext = self.openssl("pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", "key.der", "-in", "plaintext", *oaep)

    def openssl(self, *arguments, given=None):
        return subprocess.run(["openssl", *arguments], cwd=self.path, input=given, check=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout

    def configure(self):
        issuer = self.serve_issuer()
        now = int(time.time())
        self.token = self.signed({
            "iss": issuer, "aud": ORIGIN, "sub": USER, "upn": USER, "scp": "decrypt", "scope": "decrypt",
            "iat": now, "nbf": now, "exp": now + 7200})
        (self.path / "config.toml").write_text(f'''
public_url = "{ORIGIN}"
listen = {{ address = "{self.address}", plain_http = true }}
operations = {{ address = "{self.operations}" }}
log = {{ requests = "{self.path}/requests.log", events = "{self.path}/events.log" }}
[[issuer]]
issuer = "{issuer}"
scopes = ["decrypt"]
[[hsm]]
name = "a"
token = "pkcs11:token=bench?module-path={MODULE}"
pin = {{ file = "{self.path}/pin" }}
sessions = {self.group.sessions}
[[key]]
name = "Bench"
purpose = "microsoft-label"
hsms = ["a"]
generations = [{{ number = 1, id = "first", object = "key" }}]
access = {{ users = ["{USER}"] }}
''')

    def serve_issuer(self):
        """Tells its address and its key to whoever asks."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Documents)
        issuer = f"http://127.0.0.1:{server.server_port}"
        modulus = self.openssl("rsa", "-in", "issuer.pem", "-noout", "-modulus").decode().split("=")[1]
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "bench", "e": "AQAB",
               "n": base64url(bytes.fromhex(modulus.strip()))}
        server.documents = {
            "/.well-known/openid-configuration": {"issuer": issuer, "jwks_uri": f"{issuer}/keys"},
            "/keys": {"keys": [key]}}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return issuer

    def signed(self, claims):
        header = {"alg": "RS256", "typ": "JWT", "kid": "bench"}
        text = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
        return f'{text}.{base64url(self.openssl("dgst", "-sha256", "-sign", "issuer.pem", given=text.encode()))}'

    def asking(self, case, connections, seconds):
        address = self.operations if case.ask == "livez" else self.address
        path = {"decrypt": "/Bench/first/decrypt", "key": "/Bench", "livez": "/livez"}[case.ask]
        body = {"alg": "RSA-OAEP-256", "value": base64.b64encode(self.ciphertext).decode()}
        variables = {"TOKEN": self.token, "BODY": json.dumps(body)} if case.ask == "decrypt" else {}
        return [TARGET / "release/dke_load", address, path, str(connections), str(seconds)], variables

    def limit(self, case, seconds):
        if case.limit == "decrypt":
            return self.bare("decrypt", self.uri("key"), PIN=PIN)
        return super().limit(case, seconds)


class Documents(http.server.BaseHTTPRequestHandler):
    """Those of the issuer."""

    def do_GET(self):
        body = json.dumps(self.server.documents[self.path]).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


if __name__ == "__main__":
    main()
