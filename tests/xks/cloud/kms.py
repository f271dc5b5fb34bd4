"""AWS KMS with External Key Stores: key stores, keys, and double encryption."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

from errors import KmsError, ProxyFailure
from keys import Context, Key, KeyRing, encode_context, opened_blob
from model import Model, parse
from network import Network
from proxy import Configuration, Proxy
from stores import KeyStore, State, configuration_of, needs_disconnection, unsupported

SYMMETRIC = "SYMMETRIC_DEFAULT"
ALGORITHM = {"EncryptionAlgorithm": SYMMETRIC}
NOT_HERE = (
    "DryRun",
    "Recipient",
    "CloudHsmClusterId",
    "KeyStorePassword",
    "TrustAnchorCertificate",
)
# What a request may say, and still be one for an external key.
EXTERNAL = {
    "Origin": "EXTERNAL_KEY_STORE",
    "KeyUsage": "ENCRYPT_DECRYPT",
    "KeySpec": SYMMETRIC,
    "CustomerMasterKeySpec": SYMMETRIC,
    "MultiRegion": False,
}
DATA_KEY_LENS = {"AES_128": 16, "AES_256": 32}

Request = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """Who asks for what."""

    operation: str
    principal: str
    id: str


class Cloud:
    def __init__(
        self, region: str, account: str, network: Network, metadata: dict[str, str] | None = None
    ) -> None:
        self.region, self.account = region, account
        self._network, self._metadata = network, metadata or {}
        self._model = Model()
        self._stores: dict[str, KeyStore] = {}
        self._keys = KeyRing(region, account)
        # Held by what changes stores and keys, and never during cryptography.
        self._management = threading.RLock()

    def perform(self, call: Call, request: Request) -> Request:
        """Logs who asked for what and what came of it, as CloudTrail would."""
        outcome = "bug"
        try:
            answer = self._perform(call, request)
            outcome = "success"
            return answer
        except KmsError as error:
            outcome = str(error)
            raise
        finally:
            self._network.log.write(
                "client",
                operation=call.operation,
                principal=call.principal,
                kmsRequestId=call.id,
                outcome=outcome,
            )

    def _perform(self, call: Call, request: Request) -> Request:
        operation = self._model.operation(call.operation)
        method = OPERATIONS.get(call.operation)
        if method is None:
            raise unsupported(f"this cloud has no {call.operation}")
        return method(self, call, supported(parse(operation.input_shape, request)))

    # === Key stores ===

    def create_custom_key_store(self, call: Call, request: Request) -> Request:
        if request.get("CustomKeyStoreType") != "EXTERNAL_KEY_STORE":
            raise unsupported("this cloud has key stores of the type EXTERNAL_KEY_STORE only")
        name = request["CustomKeyStoreName"]
        configuration = configuration_of(request)
        with self._management:
            self._name_is_free(name)
            self._uri_is_free(configuration)
            self._check_health(call, configuration)
            store = KeyStore(name, configuration)
            self._stores[store.id] = store
        return {"CustomKeyStoreId": store.id}

    def describe_custom_key_stores(self, _call: Call, request: Request) -> Request:
        found = list(self._stores.values())
        if wanted := request.get("CustomKeyStoreId"):
            found = [self._store(wanted)]
        if name := request.get("CustomKeyStoreName"):
            found = [store for store in found if store.name == name]
            if not found:
                raise KmsError("CustomKeyStoreNotFoundException", f"no key store is called {name}")
        return {"CustomKeyStores": [store.describe() for store in found], "Truncated": False}

    def update_custom_key_store(self, call: Call, request: Request) -> Request:
        with self._management:
            store = self._store(request["CustomKeyStoreId"])
            configuration = configuration_of(request, store.configuration)
            if needs_disconnection(request):
                store.require(State.DISCONNECTED)
            if name := request.get("NewCustomKeyStoreName"):
                self._name_is_free(name, store)
            if configuration != store.configuration:
                self._uri_is_free(configuration, store)
                self._check_health(call, configuration)
            store.name, store.configuration = name or store.name, configuration
        return {}

    def delete_custom_key_store(self, _call: Call, request: Request) -> Request:
        with self._management:
            store = self._store(request["CustomKeyStoreId"])
            if self._keys.of_store(store):
                raise KmsError("CustomKeyStoreHasCMKsException", f"{store.name} has KMS keys")
            store.require(State.DISCONNECTED)
            del self._stores[store.id]
        return {}

    def connect_custom_key_store(self, call: Call, request: Request) -> Request:
        """Answers at once; the key store's state tells what comes of it."""
        with self._management:
            store = self._store(request["CustomKeyStoreId"])
            store.require(State.DISCONNECTED, State.CONNECTING, State.CONNECTED)
            if store.state is State.DISCONNECTED:
                store.state = State.CONNECTING
                threading.Thread(target=self._connect, args=(call, store), daemon=True).start()
        return {}

    def disconnect_custom_key_store(self, _call: Call, request: Request) -> Request:
        with self._management:
            store = self._store(request["CustomKeyStoreId"])
            store.require(State.CONNECTING, State.CONNECTED, State.FAILED)
            store.state, store.error_code = State.DISCONNECTED, None
        return {}

    def _connect(self, call: Call, store: KeyStore) -> None:
        state, code = State.CONNECTED, None
        try:
            self._health(call, store.configuration)
        except ProxyFailure as failure:
            state, code = State.FAILED, failure.connection_error_code()
        with self._management:
            if store.state is State.CONNECTING:
                store.state, store.error_code = state, code

    def check_health_every(self, seconds: float) -> None:
        """What AWS's own watch over connected key stores calls. A proxy that
        does not answer stays connected."""

        def watch() -> None:
            while True:
                time.sleep(seconds)
                for store in list(self._stores.values()):
                    if store.state is State.CONNECTED:
                        self._watch(store)

        threading.Thread(target=watch, daemon=True).start()

    def _watch(self, store: KeyStore) -> None:
        with contextlib.suppress(ProxyFailure):  # it is in the log
            self._health(Call("KmsHealthCheck", "", str(uuid.uuid4())), store.configuration)

    def _check_health(self, call: Call, configuration: Configuration) -> None:
        try:
            self._health(call, configuration)
        except ProxyFailure as failure:
            raise failure.in_management() from failure

    def _health(self, call: Call, configuration: Configuration) -> None:
        self._proxy(configuration).health({"kmsRequestId": call.id, "kmsOperation": call.operation})

    def _store(self, store_id: str) -> KeyStore:
        if store_id not in self._stores:
            raise KmsError("CustomKeyStoreNotFoundException", f"there is no key store {store_id}")
        return self._stores[store_id]

    def _name_is_free(self, name: str, but: KeyStore | None = None) -> None:
        if any(store.name == name for store in self._stores.values() if store is not but):
            raise KmsError("CustomKeyStoreNameInUseException", f"{name} is in use")

    def _uri_is_free(self, wanted: Configuration, but: KeyStore | None = None) -> None:
        others = (store.configuration for store in self._stores.values() if store is not but)
        if any((at.endpoint, at.path) == (wanted.endpoint, wanted.path) for at in others):
            raise KmsError("XksProxyUriInUseException", f"{wanted.endpoint}{wanted.path} is in use")

    # === Keys ===

    def create_key(self, call: Call, request: Request) -> Request:
        require_external_key(request)
        external_id = request["XksKeyId"]
        with self._management:
            store = self._store(request["CustomKeyStoreId"])
            if any(key.external_id == external_id for key in self._keys.of_store(store)):
                raise KmsError("XksKeyAlreadyInUseException", f"{external_id} is in use")
            store.require(State.CONNECTED)
            self._check_external_key(call, store, external_id)
            key = self._keys.add(store, external_id, request.get("Description", ""))
        return {"KeyMetadata": key.describe()}

    def _check_external_key(self, call: Call, store: KeyStore, external_id: str) -> None:
        try:
            facts = self._proxy(store.configuration).key_facts(external_id, self._caller(call))
        except ProxyFailure as failure:
            raise failure.in_create_key() from failure
        wrong = []
        if facts.spec != "AES_256":
            wrong.append(f"its key spec is {facts.spec} and must be AES_256")
        if not {"ENCRYPT", "DECRYPT"} <= set(facts.usage):
            wrong.append(f"its key usage is {facts.usage} and must include ENCRYPT and DECRYPT")
        if facts.status != "ENABLED":
            wrong.append(f"its status is {facts.status} and must be ENABLED")
        if wrong:
            message = f"the external key {external_id}: {'; '.join(wrong)}"
            raise KmsError("XksKeyInvalidConfigurationException", message)

    def describe_key(self, _call: Call, request: Request) -> Request:
        return {"KeyMetadata": self._keys.find(request["KeyId"]).describe()}

    def list_keys(self, _call: Call, _request: Request) -> Request:
        keys = [{"KeyId": key.id, "KeyArn": key.arn} for key in self._keys]
        return {"Keys": keys, "Truncated": False}

    def enable_key(self, _call: Call, request: Request) -> Request:
        self._keys.find(request["KeyId"]).set_enabled(True)
        return {}

    def disable_key(self, _call: Call, request: Request) -> Request:
        self._keys.find(request["KeyId"]).set_enabled(False)
        return {}

    def schedule_key_deletion(self, _call: Call, request: Request) -> Request:
        key = self._keys.find(request["KeyId"])
        days = request.get("PendingWindowInDays", 30)
        key.schedule_deletion(days)
        return {
            "KeyId": key.arn,
            "DeletionDate": key.deletion_date,
            "KeyState": key.state(),
            "PendingWindowInDays": days,
        }

    def cancel_key_deletion(self, _call: Call, request: Request) -> Request:
        key = self._keys.find(request["KeyId"])
        key.cancel_deletion()
        return {"KeyId": key.arn}

    def create_alias(self, _call: Call, request: Request) -> Request:
        with self._management:
            self._keys.add_alias(request["AliasName"], request["TargetKeyId"])
        return {}

    def list_aliases(self, _call: Call, request: Request) -> Request:
        key = self._keys.find(request["KeyId"]) if "KeyId" in request else None
        return {"Aliases": self._keys.describe_aliases(key), "Truncated": False}

    # === Cryptography ===

    def encrypt(self, call: Call, request: Request) -> Request:
        key = self._keys.find(request["KeyId"])
        blob = self._seal(call, key, request["Plaintext"], request.get("EncryptionContext", {}))
        return {"CiphertextBlob": blob, "KeyId": key.arn, **ALGORITHM}

    def decrypt(self, call: Call, request: Request) -> Request:
        context = request.get("EncryptionContext", {})
        key, plaintext = self._open(call, request["CiphertextBlob"], context, request.get("KeyId"))
        return {"Plaintext": plaintext, "KeyId": key.arn, **ALGORITHM}

    def re_encrypt(self, call: Call, request: Request) -> Request:
        blob, context = request["CiphertextBlob"], request.get("SourceEncryptionContext", {})
        destination = self._keys.find(request["DestinationKeyId"])
        source, plaintext = self._open(call, blob, context, request.get("SourceKeyId"))
        context = request.get("DestinationEncryptionContext", {})
        return {
            "CiphertextBlob": self._seal(call, destination, plaintext, context),
            "SourceKeyId": source.arn,
            "KeyId": destination.arn,
            "SourceEncryptionAlgorithm": SYMMETRIC,
            "DestinationEncryptionAlgorithm": SYMMETRIC,
        }

    def generate_data_key(self, call: Call, request: Request) -> Request:
        key = self._keys.find(request["KeyId"])
        data_key = os.urandom(data_key_len(request))
        blob = self._seal(call, key, data_key, request.get("EncryptionContext", {}))
        return {"CiphertextBlob": blob, "Plaintext": data_key, "KeyId": key.arn}

    def generate_data_key_without_plaintext(self, call: Call, request: Request) -> Request:
        answer = self.generate_data_key(call, request)
        del answer["Plaintext"]
        return answer

    def _seal(self, call: Call, key: Key, plaintext: bytes, context: Context) -> bytes:
        """Double encryption: by the provider's key, then by the external one."""
        key.require_usable()
        inner = key.seal(plaintext, context)
        try:
            outer = self._proxy(key.store.configuration).encrypt(
                key.external_id, self._caller(call, key), inner, encode_context(context)
            )
        except ProxyFailure as failure:
            raise failure.in_cryptography() from failure
        return key.blob(outer)

    def _open(
        self, call: Call, blob: bytes, context: Context, wanted: str | None
    ) -> tuple[Key, bytes]:
        """The same the other way."""
        key_id, outer = opened_blob(blob)
        key = self._keys.find(key_id)
        if wanted is not None and self._keys.find(wanted) is not key:
            raise KmsError("IncorrectKeyException", "the ciphertext is not one of the given key")
        key.require_usable()
        try:
            inner = self._proxy(key.store.configuration).decrypt(
                key.external_id, self._caller(call, key), outer, encode_context(context)
            )
        except ProxyFailure as failure:
            raise failure.in_cryptography() from failure
        return key, key.open(inner, context)

    def _proxy(self, configuration: Configuration) -> Proxy:
        return Proxy(self._network, self.region, configuration)

    def _caller(self, call: Call, key: Key | None = None) -> dict[str, str]:
        """requestMetadata: a key's ARN only where there is a KMS key already."""
        return {
            "awsPrincipalArn": call.principal,
            "kmsOperation": call.operation,
            "kmsRequestId": call.id,
            **({"kmsKeyArn": key.arn} if key else {}),
            **self._metadata,
        }


def supported(request: Request) -> Request:
    for name in NOT_HERE:
        if request.get(name):
            raise unsupported(f"this cloud has no {name}")
    if any(name.endswith("Algorithm") and request[name] != SYMMETRIC for name in request):
        raise KmsError("InvalidKeyUsageException", f"keys here are for {SYMMETRIC}")
    return request


def require_external_key(request: Request) -> None:
    """Of CreateKey."""
    if request.get("Origin") != EXTERNAL["Origin"]:
        raise unsupported("this cloud has keys of the origin EXTERNAL_KEY_STORE only")
    for name, value in EXTERNAL.items():
        if request.get(name, value) != value:
            raise unsupported(f"a key in an external key store has the {name} {value}")
    for name in ("CustomKeyStoreId", "XksKeyId"):
        if name not in request:
            raise KmsError("ValidationException", f"a key in an external key store needs {name}")


def data_key_len(request: Request) -> int:
    if ("KeySpec" in request) == ("NumberOfBytes" in request):
        raise KmsError("ValidationException", "give either KeySpec or NumberOfBytes")
    return request.get("NumberOfBytes") or DATA_KEY_LENS[request["KeySpec"]]


OPERATIONS = {
    "CancelKeyDeletion": Cloud.cancel_key_deletion,
    "ConnectCustomKeyStore": Cloud.connect_custom_key_store,
    "CreateAlias": Cloud.create_alias,
    "CreateCustomKeyStore": Cloud.create_custom_key_store,
    "CreateKey": Cloud.create_key,
    "Decrypt": Cloud.decrypt,
    "DeleteCustomKeyStore": Cloud.delete_custom_key_store,
    "DescribeCustomKeyStores": Cloud.describe_custom_key_stores,
    "DescribeKey": Cloud.describe_key,
    "DisableKey": Cloud.disable_key,
    "DisconnectCustomKeyStore": Cloud.disconnect_custom_key_store,
    "EnableKey": Cloud.enable_key,
    "Encrypt": Cloud.encrypt,
    "GenerateDataKey": Cloud.generate_data_key,
    "GenerateDataKeyWithoutPlaintext": Cloud.generate_data_key_without_plaintext,
    "ListAliases": Cloud.list_aliases,
    "ListKeys": Cloud.list_keys,
    "ReEncrypt": Cloud.re_encrypt,
    "ScheduleKeyDeletion": Cloud.schedule_key_deletion,
    "UpdateCustomKeyStore": Cloud.update_custom_key_store,
}
