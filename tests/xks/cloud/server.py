"""The KMS API over HTTP: JSON 1.1, the operation in `X-Amz-Target`.

The signatures of clients are not verified. Their access key is the principal,
so that tests can be several.
"""

from __future__ import annotations

import json
import re
import traceback
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from errors import KmsError
from kms import Call, Cloud
from model import present

TARGET = "TrentService."
MOST_BODY = 1 << 20
SCOPE = re.compile(r"Credential=([^/,]+)/\d{8}/([^/,]+)/kms/aws4_request")


class Server(ThreadingHTTPServer):
    """On 127.0.0.1; port 0 is a free one."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, cloud: Cloud, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.cloud = cloud
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer goes out in one piece
    server: Server

    def do_POST(self) -> None:
        request_id = str(uuid.uuid4())
        try:
            status, answer = 200, present(self._perform(request_id))
        except KmsError as error:
            status, answer = error.status, {"__type": error.code, "message": error.message}
        except Exception:
            traceback.print_exc()
            status, answer = 500, {"__type": "KMSInternalException", "message": "a bug: see stderr"}
        self._answer(status, request_id, json.dumps(answer).encode())

    def _perform(self, request_id: str) -> dict[str, Any]:
        # Read in any case, or it would be taken for the next request.
        body = self._body()
        operation = self.headers.get("X-Amz-Target", "")
        if not operation.startswith(TARGET):
            raise KmsError("UnknownOperationException", "X-Amz-Target names no operation of KMS")
        operation = operation.removeprefix(TARGET)
        call = Call(operation, self._principal(), request_id)
        try:
            request = json.loads(body or b"{}")
        except ValueError as error:
            raise KmsError("SerializationException", "the body is no JSON") from error
        return self.server.cloud.perform(call, request)

    def _body(self) -> bytes:
        length = int(self.headers.get("Content-Length", 0))
        if length > MOST_BODY:
            self.close_connection = True
            raise KmsError("ValidationException", "the body is too long")
        return self.rfile.read(length)

    def _principal(self) -> str:
        scope = SCOPE.search(self.headers.get("Authorization", ""))
        if scope is None:
            raise KmsError("MissingAuthenticationTokenException", "the request is not signed")
        access_key, region = scope.groups()
        if region != self.server.cloud.region:
            message = f"the signature's scope is {region}, and this is {self.server.cloud.region}"
            raise KmsError("InvalidSignatureException", message)
        return f"arn:aws:iam::{self.server.cloud.account}:user/{access_key}"

    def _answer(self, status: int, request_id: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-amzn-RequestId", request_id)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """The cloud's own log has it."""
