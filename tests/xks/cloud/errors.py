"""How calls fail: at the proxy, and what AWS KMS makes of it for its callers."""

from __future__ import annotations

from dataclasses import dataclass


class KmsError(Exception):
    """An error of the AWS KMS API."""

    STATUS = {
        "DependencyTimeoutException": 503,
        "KMSInternalException": 500,
        "KeyUnavailableException": 500,
    }

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message
        self.status = self.STATUS.get(code, 400)


class ProxyFailure(Exception):
    """A call of the proxy that came to nothing: `kind` is a row of `FAILURES`,
    and `detail` is for the log."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail = kind, detail

    def in_cryptography(self) -> KmsError:
        return KmsError("KMSInvalidStateException", FAILURES[self.kind].message)

    def in_management(self) -> KmsError:
        """Of CreateCustomKeyStore and UpdateCustomKeyStore."""
        row = FAILURES[self.kind]
        return KmsError(row.management, row.message)

    def in_create_key(self) -> KmsError:
        row = FAILURES[self.kind]
        return KmsError(row.create_key, row.message)

    def connection_error_code(self) -> str:
        return FAILURES[self.kind].connection


# The statuses of the specification's error names.
PROXY_ERRORS = {
    "ValidationException": 400,
    "InvalidStateException": 400,
    "InvalidCiphertextException": 400,
    "InvalidKeyUsageException": 400,
    "AuthenticationFailedException": 401,
    "AccessDeniedException": 403,
    "KeyNotFoundException": 404,
    "InvalidUriPathException": 404,
    "ThrottlingException": 429,
    "InternalException": 500,
    "UnsupportedOperationException": 501,
    "DependencyTimeoutException": 503,
}


@dataclass(frozen=True)
class Failure:
    message: str
    management: str
    connection: str
    create_key: str = "CustomKeyStoreInvalidStateException"


UNREACHABLE = ("XksProxyUriUnreachableException", "XKS_PROXY_NOT_REACHABLE")
TIMED_OUT = ("XksProxyUriUnreachableException", "XKS_PROXY_TIMED_OUT")
CONFIGURATION = ("XksProxyInvalidConfigurationException", "XKS_PROXY_INVALID_CONFIGURATION")
RESPONSE = ("XksProxyInvalidResponseException", "XKS_PROXY_INVALID_RESPONSE")

FAILURES = {
    # What the cloud sees by itself. Clients look for "did not respond in time".
    "TimedOut": Failure("the external key store proxy did not respond in time", *TIMED_OUT),
    "Unreachable": Failure(
        "AWS KMS cannot communicate with the external key store proxy", *UNREACHABLE
    ),
    "Unhealthy": Failure("the external key store proxy is in an unhealthy state", *UNREACHABLE),
    "InvalidResponse": Failure(
        "the response of the external key store proxy cannot be interpreted", *RESPONSE
    ),
    "InvalidTls": Failure(
        "no TLS connection to the external key store proxy: verify its certificate",
        "XksProxyInvalidConfigurationException",
        "XKS_PROXY_INVALID_TLS_CONFIGURATION",
    ),
    # What the proxy says.
    "ValidationException": Failure(
        "the external key store proxy rejected the request as not valid", *RESPONSE
    ),
    "InvalidStateException": Failure(
        "the external key store proxy rejected the request because the external key is not enabled",
        *CONFIGURATION,
    ),
    "InvalidCiphertextException": Failure(
        "the external key store proxy rejected the request because the ciphertext or the "
        "additional authenticated data is corrupted, missing, or otherwise invalid",
        *RESPONSE,
    ),
    "InvalidKeyUsageException": Failure(
        "the external key store proxy rejected the request because the external key does not "
        "support the operation",
        *RESPONSE,
        create_key="XksKeyInvalidConfigurationException",
    ),
    "AuthenticationFailedException": Failure(
        "the external key store proxy rejected the request because it could not authenticate "
        "AWS KMS",
        "XksProxyIncorrectAuthenticationCredentialException",
        "INVALID_CREDENTIALS",
    ),
    "AccessDeniedException": Failure(
        "the external key store proxy denied access to the operation",
        "XksProxyInvalidConfigurationException",
        "XKS_PROXY_ACCESS_DENIED",
    ),
    "KeyNotFoundException": Failure(
        "the external key store proxy rejected the request because it could not find the "
        "external key",
        *CONFIGURATION,
        create_key="XksKeyNotFoundException",
    ),
    "InvalidUriPathException": Failure(
        "the external key store proxy rejected the request because of an invalid URI path",
        *CONFIGURATION,
    ),
    "ThrottlingException": Failure(
        "the external key store proxy rejected the request due to a very high request rate",
        *UNREACHABLE,
    ),
    "InternalException": Failure(
        "the external key store proxy is in an unhealthy state", *UNREACHABLE
    ),
    "UnsupportedOperationException": Failure(
        "the external key store proxy does not support the operation", *RESPONSE
    ),
    "DependencyTimeoutException": Failure(
        "the external key store proxy did not respond to the request in the time allotted",
        *TIMED_OUT,
    ),
}
