"""Writes into a folder ca.pem, an authority of its own, and what it issued:
server.pem with server.key, for localhost, 127.0.0.1 and the names that follow
the folder, and client.pem, a certificate and its key as AWS KMS shows to a proxy
of external keys.

    python3 make_certificates.py FOLDER [NAME...]
"""

import datetime
import ipaddress
import pathlib
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

NOW = datetime.datetime.now(datetime.timezone.utc)
CLIENT = "cks.kms.eu-central-1.amazonaws.com"
ISSUER = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Tests")])


def main(folder, *more_names):
    ca_key, server_key, client_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    ca = builder(ISSUER, ca_key).add_extension(x509.BasicConstraints(True, 0), critical=True)
    server = builder(x509.Name([]), server_key)
    names = [x509.DNSName(name) for name in ("localhost", *more_names)]
    names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    server = server.add_extension(x509.SubjectAlternativeName(names), critical=True)
    client = builder(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, CLIENT)]), client_key)
    (folder / "ca.pem").write_bytes(pem(ca.sign(ca_key, hashes.SHA256())))
    (folder / "server.pem").write_bytes(pem(server.sign(ca_key, hashes.SHA256())))
    write_private(folder / "server.key", key_pem(server_key))
    client_pem = pem(client.sign(ca_key, hashes.SHA256())) + key_pem(client_key)
    write_private(folder / "client.pem", client_pem)


def builder(subject, key):
    day = datetime.timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .issuer_name(ISSUER)
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - day)
        .not_valid_after(NOW + day)
    )


def write_private(path, text):
    path.touch(mode=0o600)
    path.write_bytes(text)


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


main(pathlib.Path(sys.argv[1]), *sys.argv[2:])
