"""One signed request to a proxy, and its answer in time.

Connections are kept for the next request. An attempt that gets no answer in
time, or no connection, is made once more, as AWS KMS does.
"""

from __future__ import annotations

import http.client
import io
import select
import socket
import ssl
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from errors import ProxyFailure
from log import Log

MOST_BODY = 65_536
ATTEMPTS = 2


@dataclass(frozen=True)
class Answer:
    status: int
    content_type: str
    body: bytes


class Network:
    """Ways to proxies, by the name in a key store's endpoint."""

    def __init__(
        self,
        ca: Path,
        routes: dict[str, tuple[str, int]],
        timeout: float,
        log: Log,
        client_certificate: Path | None = None,
    ) -> None:
        self.routes, self.timeout, self.log = routes, timeout, log
        self._tls = tls_context(ca, client_certificate)
        self._kept: defaultdict[str, list[ssl.SSLSocket]] = defaultdict(list)
        self._lock = threading.Lock()

    def post(self, url: str, body: bytes, credentials: Credentials, region: str) -> Answer:
        for attempt in range(1, ATTEMPTS + 1):
            request = sign(url, body, credentials, region)
            try:
                return self._attempt(request)
            except ProxyFailure as failure:
                self.log.write("attempt", url=url, attempt=attempt, failure=str(failure))
                if failure.kind == "InvalidTls" or attempt == ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, request: AWSRequest) -> Answer:
        deadline = time.monotonic() + self.timeout
        host = request.headers["Host"]
        connection = None
        try:
            connection = self._connection(host, deadline)
            connection.settimeout(left_until(deadline))
            connection.sendall(request_bytes(request))
            answer, reusable = read_answer(connection, deadline)
        except Exception as error:
            if connection is not None:
                connection.close()
            raise failure_of(error) from error
        if reusable:
            self._keep(host, connection)
        else:
            connection.close()
        return answer

    def _connection(self, host: str, deadline: float) -> ssl.SSLSocket:
        with self._lock:
            while self._kept[host]:
                connection = self._kept[host].pop()
                if is_idle(connection):
                    return connection
                connection.close()
        plain = socket.create_connection(self.routes.get(host, (host, 443)), left_until(deadline))
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.settimeout(left_until(deadline))
            return self._tls.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise

    def _keep(self, host: str, connection: ssl.SSLSocket) -> None:
        with self._lock:
            self._kept[host].append(connection)


def parse_route(text: str) -> tuple[str, tuple[str, int]]:
    """Of `HOST=ADDRESS:PORT`."""
    host, _, target = text.partition("=")
    address, _, port = target.rpartition(":")
    return host, (address, int(port))


def tls_context(ca: Path, client_certificate: Path | None) -> ssl.SSLContext:
    """TLS 1.2 and 1.3, with the suites of the specification, no other
    authorities than `ca`, and the server's name checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384")
    context.set_alpn_protocols(["http/1.1"])
    if client_certificate is not None:
        context.load_cert_chain(client_certificate)
    return context


def sign(url: str, body: bytes, credentials: Credentials, region: str) -> AWSRequest:
    """By botocore, so that the signature is not one of ours. Of the headers it
    signs the host and the date, and no more."""
    request = AWSRequest("POST", url, data=body)
    request.headers["Host"] = url.split("/")[2]
    SigV4Auth(credentials, "kms-xks-proxy", region).add_auth(request)
    request.headers["Content-Type"] = "application/json"
    request.headers["Content-Length"] = str(len(body))
    return request


def request_bytes(request: AWSRequest) -> bytes:
    path = "/" + request.url.split("/", 3)[3]
    headers = [f"{name}: {value}" for name, value in request.headers.items()]
    return "\r\n".join([f"POST {path} HTTP/1.1", *headers, "", ""]).encode("ascii") + request.data


def read_answer(connection: ssl.SSLSocket, deadline: float) -> tuple[Answer, bool]:
    """The answer, and whether the connection can serve another request."""
    response = http.client.HTTPResponse(Impatient(connection, deadline), method="POST")
    response.begin()
    body = response.read(MOST_BODY + 1)
    if len(body) > MOST_BODY:
        raise ProxyFailure("InvalidResponse", f"a body of more than {MOST_BODY} bytes")
    answer = Answer(response.status, response.headers.get("Content-Type", ""), body)
    return answer, response.isclosed() and not response.will_close


class Impatient(io.RawIOBase):
    """What `HTTPResponse` reads from. One deadline holds for all reads: a proxy
    that sends a byte now and then does not gain time."""

    def __init__(self, connection: ssl.SSLSocket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        self._connection.settimeout(left_until(self._deadline))
        return self._connection.recv_into(buffer)


def left_until(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def is_idle(connection: ssl.SSLSocket) -> bool:
    """Nothing is there to read, so it was not closed at the other end."""
    return not connection.pending() and not select.select([connection], [], [], 0)[0]


def failure_of(error: Exception) -> ProxyFailure:
    if isinstance(error, ProxyFailure):
        return error
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, TimeoutError):
        return ProxyFailure("TimedOut", detail)
    closed = isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError))
    if isinstance(error, ssl.SSLError) and not closed:
        return ProxyFailure("InvalidTls", detail)
    if isinstance(error, (OSError, http.client.IncompleteRead)):
        return ProxyFailure("Unreachable", detail)
    if isinstance(error, (http.client.HTTPException, ValueError)):
        return ProxyFailure("InvalidResponse", detail)
    raise error
