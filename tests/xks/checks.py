"""Checks of the cloud itself, with the second proxy behind it and an unmodified
client before it: what it makes of good answers, of bad ones, and of none.

    python3 checks.py CERTIFICATES_FOLDER
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import sys
import threading
import time
import unittest
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "cloud"))

import boto3  # noqa: E402
from botocore.config import Config  # noqa: E402
from botocore.exceptions import ClientError  # noqa: E402

from errors import FAILURES, PROXY_ERRORS  # noqa: E402
from keys import opened_blob  # noqa: E402
from kms import Cloud  # noqa: E402
from log import Log  # noqa: E402
from network import Network  # noqa: E402
from second_proxy import KeyStore, Proxy, Raw  # noqa: E402
from server import Server  # noqa: E402

REGION = "eu-central-1"
ENDPOINT, PATH = "https://xks.example.com", "/tenant-a"
ACCESS_KEY, SECRET = "A" * 20, "s" * 43
CONTEXT = {"object": "report.md", "tenant": "blue"}
certificates = Path(sys.argv.pop(1)) if len(sys.argv) > 1 else None


class CloudChecks(unittest.TestCase):
    def setUp(self) -> None:
        self.log = Log()
        self.start()

    def start(self, client_ca: Path | None = None, client_certificate: Path | None = None) -> None:
        """A proxy and a cloud that calls it."""
        keys = {name: secrets.token_bytes(32) for name in ("key-1", "key-2")}
        store = KeyStore(PATH, REGION, {ACCESS_KEY: SECRET}, keys)
        chain = (certificates / "server.pem", certificates / "server.key")
        self.proxy = Proxy(store, *chain, client_ca)
        self.run_server(self.proxy)
        ports = {"xks": self.proxy.server_port, "other": self.proxy.server_port, "closed": 1}
        routes = {f"{name}.example.com": ("127.0.0.1", port) for name, port in ports.items()}
        network = Network(certificates / "ca.pem", routes, 30, self.log, client_certificate)
        self.cloud = Cloud(REGION, "111122223333", network)
        server = Server(self.cloud)
        self.run_server(server)
        self.kms = client(server.address)

    def run_server(self, server: ThreadingHTTPServer) -> None:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)

    def create_store(self, name: str = "store", **changes: Any) -> str:
        credential = {"AccessKeyId": ACCESS_KEY, "RawSecretAccessKey": SECRET}
        request = {
            "CustomKeyStoreType": "EXTERNAL_KEY_STORE",
            "XksProxyConnectivity": "PUBLIC_ENDPOINT",
            "XksProxyUriEndpoint": ENDPOINT,
            "XksProxyUriPath": f"{PATH}/kms/xks/v1",
            "XksProxyAuthenticationCredential": credential,
            **changes,
        }
        return self.kms.create_custom_key_store(CustomKeyStoreName=name, **request)[
            "CustomKeyStoreId"
        ]

    def connect(self, store: str) -> dict[str, Any]:
        """What it comes to."""
        self.kms.connect_custom_key_store(CustomKeyStoreId=store)
        while (entry := self.describe(store))["ConnectionState"] == "CONNECTING":
            time.sleep(0.01)
        return entry

    def describe(self, store: str) -> dict[str, Any]:
        return self.kms.describe_custom_key_stores(CustomKeyStoreId=store)["CustomKeyStores"][0]

    def create_key(self, store: str, external: str = "key-1") -> str:
        request = {"Origin": "EXTERNAL_KEY_STORE", "CustomKeyStoreId": store}
        return self.kms.create_key(XksKeyId=external, **request)["KeyMetadata"]["Arn"]

    def connected_key(self) -> str:
        self.store = self.create_store()
        self.assertEqual(self.connect(self.store)["ConnectionState"], "CONNECTED")
        return self.create_key(self.store)

    @contextlib.contextmanager
    def refused(self, code: str, words: str = "") -> Iterator[None]:
        with self.assertRaises(ClientError) as raised:
            yield
        error = raised.exception.response["Error"]
        self.assertEqual(error["Code"], code, error)
        self.assertIn(words, error["Message"])

    def sent(self, operation: str) -> list[dict[str, Any]]:
        """What proxies were asked."""
        return [
            record
            for record in self.log.records
            if record["kind"] == "proxy" and record["url"].endswith(f"/{operation}")
        ]

    # === Key stores ===

    def test_a_key_store_lives_as_one_of_aws_does(self) -> None:
        arn = self.connected_key()
        described = self.describe(self.store)
        self.assertEqual(described["XksProxyConfiguration"]["AccessKeyId"], ACCESS_KEY)
        self.assertNotIn("ConnectionErrorCode", described)
        with self.refused("CustomKeyStoreHasCMKsException"):
            self.kms.delete_custom_key_store(CustomKeyStoreId=self.store)
        with self.refused("CustomKeyStoreInvalidStateException"):
            self.kms.update_custom_key_store(
                CustomKeyStoreId=self.store, XksProxyUriEndpoint="https://other.example.com"
            )
        self.kms.disconnect_custom_key_store(CustomKeyStoreId=self.store)
        metadata = self.kms.describe_key(KeyId=arn)["KeyMetadata"]
        self.assertEqual(
            (metadata["KeyState"], metadata["Origin"]), ("Unavailable", "EXTERNAL_KEY_STORE")
        )
        with self.refused("KMSInvalidStateException", "Unavailable"):
            self.kms.encrypt(KeyId=arn, Plaintext=b"a")
        with self.refused("CustomKeyStoreInvalidStateException"):
            self.kms.disconnect_custom_key_store(CustomKeyStoreId=self.store)
        self.assertEqual(self.connect(self.store)["ConnectionState"], "CONNECTED")
        self.kms.encrypt(KeyId=arn, Plaintext=b"a")

    def test_a_key_store_without_keys_is_deleted(self) -> None:
        store = self.create_store()
        self.kms.delete_custom_key_store(CustomKeyStoreId=store)
        with self.refused("CustomKeyStoreNotFoundException"):
            self.describe(store)

    def test_health_is_asked_at_each_step_with_its_operation(self) -> None:
        arn = self.connected_key()
        credential = {"AccessKeyId": "B" * 20, "RawSecretAccessKey": "t" * 43}
        self.proxy.store.credentials["B" * 20] = "t" * 43
        self.kms.update_custom_key_store(
            CustomKeyStoreId=self.store, XksProxyAuthenticationCredential=credential
        )
        self.kms.update_custom_key_store(CustomKeyStoreId=self.store, NewCustomKeyStoreName="new")
        del self.proxy.store.credentials[ACCESS_KEY]
        self.kms.encrypt(KeyId=arn, Plaintext=b"a")
        self.cloud.check_health_every(0.01)
        while len(self.sent("health")) < 4:
            time.sleep(0.01)
        self.kms.disconnect_custom_key_store(CustomKeyStoreId=self.store)
        operations = [
            record["request"]["requestMetadata"]["kmsOperation"] for record in self.sent("health")
        ]
        expected = [
            "CreateCustomKeyStore",
            "ConnectCustomKeyStore",
            "UpdateCustomKeyStore",
            "KmsHealthCheck",
        ]
        self.assertEqual(operations[:4], expected)

    def test_what_is_wrong_with_a_proxy_is_said_when_its_key_store_is_created(self) -> None:
        credential = {"AccessKeyId": ACCESS_KEY, "RawSecretAccessKey": "x" * 43}
        for code, words, changes in [
            (
                "XksProxyIncorrectAuthenticationCredentialException",
                "authenticate",
                {"XksProxyAuthenticationCredential": credential},
            ),
            (
                "XksProxyInvalidConfigurationException",
                "URI path",
                {"XksProxyUriPath": "/other/kms/xks/v1"},
            ),
            # The certificate is not for this name.
            (
                "XksProxyInvalidConfigurationException",
                "certificate",
                {"XksProxyUriEndpoint": "https://other.example.com"},
            ),
            (
                "XksProxyUriUnreachableException",
                "cannot communicate",
                {"XksProxyUriEndpoint": "https://closed.example.com"},
            ),
            ("ValidationException", "", {"XksProxyUriEndpoint": "https://xks.example.com:8443"}),
            ("ValidationException", "", {"XksProxyUriPath": "/tenant-a"}),
            (
                "ValidationException",
                "",
                {"XksProxyAuthenticationCredential": {**credential, "AccessKeyId": "a" * 20}},
            ),
            (
                "UnsupportedOperationException",
                "public",
                {"XksProxyConnectivity": "VPC_ENDPOINT_SERVICE"},
            ),
        ]:
            with self.subTest(changes), self.refused(code, words):
                self.create_store(**changes)
        self.create_store()
        with self.refused("CustomKeyStoreNameInUseException"):
            self.create_store()
        with self.refused("XksProxyUriInUseException"):
            self.create_store("other")

    def test_a_failed_connection_says_why_and_has_to_be_undone_first(self) -> None:
        store = self.create_store()
        unavailable = {"id": "a", "model": "m", "healthStatus": "UNAVAILABLE"}
        for code, fault in [
            ("INVALID_CREDENTIALS", error("AuthenticationFailedException")),
            ("XKS_PROXY_INVALID_CONFIGURATION", error("InvalidUriPathException")),
            ("XKS_PROXY_ACCESS_DENIED", error("AccessDeniedException")),
            ("XKS_PROXY_INVALID_RESPONSE", lambda _path, raw: Raw(200, b"{}")),
            ("XKS_PROXY_NOT_REACHABLE", lambda _path, _raw: None),
            ("XKS_PROXY_NOT_REACHABLE", edit(ekmFleetDetails=[unavailable])),
            ("XKS_PROXY_TIMED_OUT", error("DependencyTimeoutException")),
        ]:
            with self.subTest(code):
                self.proxy.fault = fault
                entry = self.connect(store)
                self.assertEqual(entry["ConnectionState"], "FAILED")
                self.assertEqual(entry["ConnectionErrorCode"], code)
                with self.refused("CustomKeyStoreInvalidStateException"):
                    self.kms.connect_custom_key_store(CustomKeyStoreId=store)
                self.kms.disconnect_custom_key_store(CustomKeyStoreId=store)
        self.proxy.fault = None
        self.assertEqual(self.connect(store)["ConnectionState"], "CONNECTED")

    def test_a_proxy_may_ask_for_a_certificate(self) -> None:
        self.start(client_ca=certificates / "ca.pem")
        # Its alert may be lost, for by then the request is on its way (TLS 1.3).
        with self.assertRaisesRegex(ClientError, "InvalidConfiguration|UriUnreachable"):
            self.create_store()
        self.start(certificates / "ca.pem", certificates / "client.pem")
        self.create_store()

    # === Keys ===

    def test_an_external_key_is_looked_at_before_a_kms_key_is_made_of_it(self) -> None:
        self.connected_key()
        with self.refused("XksKeyAlreadyInUseException"):
            self.create_key(self.store)
        with self.refused("XksKeyNotFoundException"):
            self.create_key(self.store, "no-such-key")
        for fault in [
            edit(keySpec="RSA_2048"),
            edit(keyUsage=["ENCRYPT"]),
            edit(keyStatus="DISABLED"),
        ]:
            self.proxy.fault = fault
            with self.refused("XksKeyInvalidConfigurationException", "key-2"):
                self.create_key(self.store, "key-2")
        self.proxy.fault = None
        self.kms.disconnect_custom_key_store(CustomKeyStoreId=self.store)
        with self.refused("CustomKeyStoreInvalidStateException"):
            self.create_key(self.store, "key-2")

    def test_a_key_is_disabled_scheduled_for_deletion_and_back(self) -> None:
        arn = self.connected_key()
        blob = self.kms.encrypt(KeyId=arn, Plaintext=b"a")["CiphertextBlob"]
        self.kms.disable_key(KeyId=arn)
        with self.refused("DisabledException"):
            self.kms.decrypt(CiphertextBlob=blob)
        self.kms.schedule_key_deletion(KeyId=arn, PendingWindowInDays=7)
        with self.refused("KMSInvalidStateException", "PendingDeletion"):
            self.kms.decrypt(CiphertextBlob=blob)
        self.kms.cancel_key_deletion(KeyId=arn)
        self.kms.enable_key(KeyId=arn)
        self.assertEqual(self.kms.decrypt(CiphertextBlob=blob)["Plaintext"], b"a")

    # === Cryptography ===

    def test_a_plaintext_comes_back_whichever_way_it_went(self) -> None:
        arn = self.connected_key()
        self.kms.create_alias(AliasName="alias/main", TargetKeyId=arn)
        other = self.create_key(self.store, "key-2")
        for plaintext in (b"a", bytes(range(256)) * 16):
            sealed = self.kms.encrypt(
                KeyId="alias/main", Plaintext=plaintext, EncryptionContext=CONTEXT
            )
            self.assertEqual(sealed["KeyId"], arn)
            blob = self.kms.re_encrypt(
                CiphertextBlob=sealed["CiphertextBlob"],
                SourceEncryptionContext=CONTEXT,
                DestinationKeyId=other,
            )["CiphertextBlob"]
            opened = self.kms.decrypt(CiphertextBlob=blob, KeyId=other)
            self.assertEqual((opened["Plaintext"], opened["KeyId"]), (plaintext, other))
        for request, length in [
            ({"KeySpec": "AES_128"}, 16),
            ({"KeySpec": "AES_256"}, 32),
            ({"NumberOfBytes": 1024}, 1024),
        ]:
            made = self.kms.generate_data_key(KeyId=arn, **request)
            self.assertEqual(len(made["Plaintext"]), length)
            self.assertEqual(
                self.kms.decrypt(CiphertextBlob=made["CiphertextBlob"])["Plaintext"],
                made["Plaintext"],
            )
            alone = self.kms.generate_data_key_without_plaintext(KeyId=arn, **request)
            self.assertNotIn("Plaintext", alone)

    def test_a_request_that_means_nothing_is_refused(self) -> None:
        arn = self.connected_key()
        with self.refused("ValidationException"):
            self.kms.encrypt(KeyId=arn, Plaintext=bytes(4097))
        with self.refused("ValidationException"):
            self.kms.generate_data_key(KeyId=arn)
        with self.refused("ValidationException"):
            self.kms.encrypt(KeyId=arn, Plaintext=b"a", EncryptionContext={"a": "b" * 8192})
        with self.refused("NotFoundException"):
            self.kms.encrypt(KeyId="alias/none", Plaintext=b"a")
        with self.refused("UnsupportedOperationException"):
            self.kms.create_key()
        with self.refused("UnsupportedOperationException"):
            self.kms.encrypt(KeyId=arn, Plaintext=b"a", DryRun=True)
        with self.refused("InvalidKeyUsageException"):
            self.kms.encrypt(KeyId=arn, Plaintext=b"a", EncryptionAlgorithm="RSAES_OAEP_SHA_256")
        with self.refused("UnsupportedOperationException"):
            self.kms.sign(KeyId=arn, Message=b"a", SigningAlgorithm="ECDSA_SHA_256")

    def test_another_context_key_or_ciphertext_does_not_open(self) -> None:
        arn = self.connected_key()
        other = self.create_key(self.store, "key-2")
        blob = self.kms.encrypt(KeyId=arn, Plaintext=b"secret", EncryptionContext=CONTEXT)[
            "CiphertextBlob"
        ]
        for context in ({}, {"object": "report.md"}, {**CONTEXT, "tenant": "red"}):
            with self.refused("KMSInvalidStateException", "additional authenticated data"):
                self.kms.decrypt(CiphertextBlob=blob, EncryptionContext=context)
        with self.refused("IncorrectKeyException"):
            self.kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT, KeyId=other)
        for at in range(len(blob)):
            altered = bytearray(blob)
            altered[at] ^= 1
            with self.assertRaises(ClientError, msg=f"byte {at}"):
                self.kms.decrypt(CiphertextBlob=bytes(altered), EncryptionContext=CONTEXT)
        for length in range(1, len(blob)):
            with self.assertRaises(ClientError, msg=f"{length} bytes"):
                self.kms.decrypt(CiphertextBlob=blob[:length], EncryptionContext=CONTEXT)

    def test_neither_layer_opens_alone(self) -> None:
        arn = self.connected_key()
        made = self.kms.generate_data_key(KeyId=arn, KeySpec="AES_256", EncryptionContext=CONTEXT)
        self.kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=CONTEXT)
        # The proxy: all that it saw is without the data key, and so is what its key gave.
        inner = json.loads(self.sent("decrypt")[0]["response"])["plaintext"]
        self.assertEqual(inner, self.sent("encrypt")[0]["request"]["plaintext"])
        self.assertEqual(self.seen_by_the_proxy(made["Plaintext"]), [])
        # The provider's key: what was stored does not open with it.
        key_id, outer = opened_blob(made["CiphertextBlob"])
        key = self.cloud._keys.find(key_id)
        with self.assertRaises(Exception) as raised:
            key.open(outer.ciphertext, CONTEXT)
        self.assertEqual(raised.exception.code, "KMSInvalidStateException")

    def seen_by_the_proxy(self, value: bytes) -> list[str]:
        seen = json.dumps(self.sent("encrypt") + self.sent("decrypt"))
        return [text for text in (base64.b64encode(value).decode(), value.hex()) if text in seen]

    # === What a proxy may do wrong ===

    def test_no_answer_is_believed_that_is_not_as_specified(self) -> None:
        arn = self.connected_key()
        for name, fault in [
            ("content type", lambda _path, raw: Raw(200, raw.body, "text/html")),
            ("no JSON", lambda _path, _raw: Raw(200, b"<html>")),
            ("no object", lambda _path, _raw: Raw(200, b"[]")),
            ("two lines", lambda _path, raw: Raw(200, raw.body.replace(b", ", b",\n"))),
            (
                "a name twice",
                lambda _path, raw: Raw(200, raw.body.replace(b"{", b'{"ciphertext": "", ', 1)),
            ),
            ("too long", lambda _path, raw: Raw(200, raw.body + b" " * 70_000)),
            ("another status", lambda _path, raw: Raw(204, raw.body)),
            (
                "an error name of another status",
                lambda _path, _raw: Raw(500, b'{"errorName": "ValidationException"}'),
            ),
            ("an unknown error", lambda _path, _raw: Raw(400, b'{"errorName": "NoSuchException"}')),
            (
                "an error message of two lines",
                lambda _path, _raw: Raw(
                    500, b'{"errorName": "InternalException", "errorMessage": "a\\nb"}'
                ),
            ),
            ("the integrity value", edit(ciphertextDataIntegrityValue="AAAA")),
            ("no integrity value", edit(ciphertextDataIntegrityValue=None)),
            ("a short tag", edit(authenticationTag="AAAA")),
            ("an IV of 13", edit(initializationVector="AAAAAAAAAAAAAAAAAA==")),
            ("long metadata", edit(ciphertextMetadata="A" * 28)),
            ("a short ciphertext", edit(ciphertext="AAAA")),
            ("base64 without padding", edit(initializationVector="AAAAAAAAAAAAAAAAAAAAAA")),
            ("base64 of another spelling", edit(initializationVector="AAAAAAAAAAAAAAAAAAAAAB==")),
        ]:
            with self.subTest(name):
                self.proxy.fault = fault
                with self.refused("KMSInvalidStateException", "cannot be interpreted"):
                    self.kms.encrypt(KeyId=arn, Plaintext=b"secret")
        # What was changed was the reason.
        self.proxy.fault = None
        self.kms.encrypt(KeyId=arn, Plaintext=b"secret")

    def test_a_plaintext_of_another_length_or_content_is_not_passed_on(self) -> None:
        arn = self.connected_key()
        blob = self.kms.encrypt(KeyId=arn, Plaintext=b"secret")["CiphertextBlob"]
        inner = self.sent("encrypt")[0]["request"]["plaintext"]
        for words, plaintext in [
            ("cannot be interpreted", "AAAA"),
            ("no ciphertext of this key", ("C" if inner[0] == "B" else "B") + inner[1:]),
        ]:
            self.proxy.fault = edit(plaintext=plaintext)
            with self.refused("KMSInvalidStateException", words):
                self.kms.decrypt(CiphertextBlob=blob)

    def test_each_error_of_a_proxy_has_a_sentence(self) -> None:
        arn = self.connected_key()
        for name in PROXY_ERRORS:
            with self.subTest(name):
                self.proxy.fault = error(name)
                with self.refused("KMSInvalidStateException", FAILURES[name].message):
                    self.kms.encrypt(KeyId=arn, Plaintext=b"a")
        self.assertIn("external key store proxy", FAILURES[name].message)

    def test_a_proxy_that_is_late_is_asked_twice(self) -> None:
        arn = self.connected_key()
        self.cloud._network.timeout = 0.2
        release = threading.Event()
        self.proxy.fault = lambda _path, raw: release.wait(60) and raw
        with self.refused("KMSInvalidStateException", "did not respond in time"):
            self.kms.encrypt(KeyId=arn, Plaintext=b"a")
        release.set()
        self.assertEqual([record["attempt"] for record in self.attempts()], [1, 2])

    def test_a_connection_that_breaks_is_made_anew_once(self) -> None:
        arn = self.connected_key()
        answers = [None]
        self.proxy.fault = lambda _path, raw: answers.pop() if answers else raw
        self.kms.encrypt(KeyId=arn, Plaintext=b"a")
        answers += [None, None]
        with self.refused("KMSInvalidStateException", "cannot communicate"):
            self.kms.encrypt(KeyId=arn, Plaintext=b"a")
        self.assertEqual([record["attempt"] for record in self.attempts()], [1, 1, 2])

    def test_connections_are_kept(self) -> None:
        connections = []
        accept = self.proxy.get_request
        self.proxy.get_request = lambda: connections.append(accept()) or connections[-1]
        arn = self.connected_key()
        for _ in range(5):
            self.kms.encrypt(KeyId=arn, Plaintext=b"a")
        self.assertEqual(len(connections), 1)

    def attempts(self) -> list[dict[str, Any]]:
        return [record for record in self.log.records if record["kind"] == "attempt"]


def client(address: str) -> Any:
    return boto3.client(
        "kms",
        endpoint_url=address,
        region_name=REGION,
        aws_access_key_id="AKIDTESTS",
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
    )


def error(name: str) -> Any:
    body = json.dumps({"errorName": name, "errorMessage": "injected"}).encode()
    return lambda _path, _raw: Raw(PROXY_ERRORS[name], body)


def edit(**changes: Any) -> Any:
    """Changes fields of an answer, or takes away those that are None."""

    def fault(_path: str, raw: Raw) -> Raw:
        fields = {**json.loads(raw.body), **changes}
        body = json.dumps({name: value for name, value in fields.items() if value is not None})
        return Raw(raw.status, body.encode())

    return fault


if __name__ == "__main__":
    unittest.main()
