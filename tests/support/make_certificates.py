"""Writes ca.pem, server.pem and server.key into a folder: an authority of its
own, and a certificate for localhost and 127.0.0.1 that it issued."""

import datetime
import ipaddress
import pathlib
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

NOW = datetime.datetime.now(datetime.timezone.utc)
ISSUER = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Tests")])


def main(folder):
    ca_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = builder(ISSUER, ca_key).add_extension(x509.BasicConstraints(True, 0), critical=True)
    server = builder(x509.Name([]), server_key)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    server = server.add_extension(x509.SubjectAlternativeName(names), critical=True)
    write(folder / "ca.pem", ca.sign(ca_key, hashes.SHA256()))
    write(folder / "server.pem", server.sign(ca_key, hashes.SHA256()))
    key = server_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "server.key").write_bytes(key)


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


def write(path, certificate):
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


main(pathlib.Path(sys.argv[1]))
