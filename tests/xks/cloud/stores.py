"""External key stores, and what requests say of them."""

from __future__ import annotations

import enum
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from errors import KmsError
from proxy import Configuration

# What may only be changed while a key store is disconnected.
DISCONNECTED_FIRST = ("XksProxyUriEndpoint", "XksProxyConnectivity")


class State(enum.Enum):
    CONNECTING = "CONNECTING"
    CONNECTED = "CONNECTED"
    DISCONNECTED = "DISCONNECTED"
    FAILED = "FAILED"


@dataclass(eq=False)
class KeyStore:
    name: str
    configuration: Configuration
    id: str = field(default_factory=lambda: f"cks-{secrets.token_hex(9)[:17]}")
    created: float = field(default_factory=time.time)
    state: State = State.DISCONNECTED
    error_code: str | None = None

    def require(self, *states: State) -> None:
        if self.state not in states:
            message = f"the key store {self.name} is {self.state.value}"
            raise KmsError("CustomKeyStoreInvalidStateException", message)

    def describe(self) -> dict[str, Any]:
        return {
            "CustomKeyStoreId": self.id,
            "CustomKeyStoreName": self.name,
            "CustomKeyStoreType": "EXTERNAL_KEY_STORE",
            "ConnectionState": self.state.value,
            **({"ConnectionErrorCode": self.error_code} if self.error_code else {}),
            "CreationDate": self.created,
            "XksProxyConfiguration": {
                "Connectivity": "PUBLIC_ENDPOINT",
                "AccessKeyId": self.configuration.access_key_id,
                "UriEndpoint": self.configuration.endpoint,
                "UriPath": self.configuration.path,
            },
        }


def configuration_of(request: dict[str, Any], old: Configuration | None = None) -> Configuration:
    """As a request has it; what it does not say is as in `old`."""
    if request.get("XksProxyConnectivity", "PUBLIC_ENDPOINT") != "PUBLIC_ENDPOINT":
        raise unsupported("this cloud has public endpoints only")
    credential = request.get("XksProxyAuthenticationCredential", {})
    values = {
        "endpoint": request.get("XksProxyUriEndpoint"),
        "path": request.get("XksProxyUriPath"),
        "access_key_id": credential.get("AccessKeyId"),
        "secret": credential.get("RawSecretAccessKey"),
    }
    values = {name: value or getattr(old, name, None) for name, value in values.items()}
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise KmsError("ValidationException", f"an external key store needs {', '.join(missing)}")
    return Configuration(**values)


def needs_disconnection(request: dict[str, Any]) -> bool:
    return any(name in request for name in DISCONNECTED_FIRST)


def unsupported(message: str) -> KmsError:
    return KmsError("UnsupportedOperationException", message)
