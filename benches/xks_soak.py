#!/usr/bin/env python3
"""The XKS proxy for half an hour under mixed load, with a token that fails.

    benches/xks_soak.py [--minutes N]

Callers encrypt and decrypt random data with and without CDIV, ask for metadata
and health, and send bad ciphertexts, while the module between the proxy and
SoftHSM is told to hang, to be slow, to lose sessions and to disappear, again and
again. It fails when an answer is wrong, when something transient is told as
final, when a request takes longer than the deadline and a second, or when the
proxy's memory grows. Builds what `benches/xks.py` builds.
"""

import argparse
import base64
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import random
import sys
import threading
import time

from xks import Bench, Group, build

CALLERS = 8
DEADLINE = 0.2  # of the configuration, in seconds
FAULTS = [
    "C_Encrypt hang times 1",
    "C_Decrypt hang times 1",
    "C_Encrypt delay 20ms\nC_Decrypt delay 20ms",
    "C_EncryptInit return CKR_SESSION_HANDLE_INVALID times 2",
    "C_DecryptInit return CKR_USER_NOT_LOGGED_IN times 2",
    "C_EncryptInit return CKR_DEVICE_REMOVED\nC_OpenSession return CKR_DEVICE_REMOVED",
    "C_EncryptInit return CKR_DEVICE_ERROR\nC_DecryptInit return CKR_DEVICE_ERROR",
    "C_EncryptInit return CKR_DEVICE_MEMORY times 20",
    "C_GenerateRandom return CKR_FUNCTION_FAILED times 3",
]
TRANSIENT = {"ThrottlingException", "InternalException", "DependencyTimeoutException"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--no-build", action="store_true")
    arguments = parser.parse_args()
    if not arguments.no_build:
        build()
    with Bench(Group([], keys=4, sessions=4, delay="0ms")) as bench:
        soak = Soak(bench)
        soak.run(arguments.minutes * 60)
        sys.exit(soak.report())


class Soak:
    """The callers, whoever plants faults, and what they found."""

    def __init__(self, bench):
        self.bench = bench
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.counts, self.problems, self.longest = {}, [], 0.0
        self.memory = []

    def run(self, seconds):
        threads = [threading.Thread(target=self.call, args=(number,)) for number in range(CALLERS)]
        threads.append(threading.Thread(target=self.fail_again_and_again))
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.stop.is_set():
            time.sleep(min(5, seconds / 20))
            self.memory.append(self.resident())
            if self.bench.service.poll() is not None:
                self.problem(f"the proxy ended with {self.bench.service.returncode}")
        self.stop.set()
        for thread in threads:
            thread.join()
        self.recover()

    def recover(self):
        """After the last fault everything works again."""
        self.faults("")
        connection = Connection(self.bench)
        for _ in range(600):
            if connection.ask("keys/k0/encrypt", encrypt(b"x", False))[0] == 200:
                return
            time.sleep(0.1)
        self.problem("it does not recover")

    def fail_again_and_again(self):
        while not self.stop.wait(random.uniform(0.5, 3)):
            self.faults(random.choice(FAULTS))
            self.stop.wait(random.uniform(0.5, 3))
            self.faults("")

    def faults(self, orders):
        new = self.bench.path / "faults.new"
        new.write_text(orders)
        new.rename(self.bench.path / "faults")

    def call(self, number):
        connection, key = Connection(self.bench), f"k{number % 4}"
        while not self.stop.is_set():
            try:
                self.one_of_each(connection, key)
            except OSError as error:
                self.problem(f"no answer: {error!r}")
                connection = Connection(self.bench)

    def one_of_each(self, connection, key):
        plaintext = os.urandom(random.choice([0, 1, 32, 48, 4300]))
        checked = random.random() < 0.5
        answer = self.ask(connection, f"keys/{key}/encrypt", encrypt(plaintext, checked))
        if answer is not None:
            fields = {name: value for name, value in answer.items() if name != "ciphertextDataIntegrityValue"}
            if checked and answer["ciphertextDataIntegrityValue"] != cdiv(fields):
                self.problem("a CDIV does not match")
            back = self.ask(connection, f"keys/{key}/decrypt", decrypt(fields))
            if back is not None and base64.b64decode(back["plaintext"]) != plaintext:
                self.problem("another plaintext comes back")
            bad = dict(fields, authenticationTag=base64.b64encode(bytes(16)).decode())
            self.ask(connection, f"keys/{key}/decrypt", decrypt(bad), bad=True)
        self.ask(connection, f"keys/{key}/metadata", request())
        self.ask(connection, "health", request())

    def ask(self, connection, operation, body, bad=False):
        start = time.monotonic()
        status, answer = connection.ask(operation, body)
        took = time.monotonic() - start
        name = answer.get("errorName", "ok")
        with self.lock:
            self.longest = max(self.longest, took)
            counted = (operation.split("/")[-1], name)
            self.counts[counted] = self.counts.get(counted, 0) + 1
        if took > DEADLINE + 1:
            self.problem(f"{operation} took {took:.2f} s")
        allowed = TRANSIENT | ({"InvalidCiphertextException"} if bad else {"ok"})
        if name not in allowed:
            self.problem(f"{operation} is answered with {status} {answer}")
        return answer if status == 200 else None

    def problem(self, what):
        with self.lock:
            self.problems.append(what)
            print(f"PROBLEM: {what}", flush=True)
        if len(self.problems) > 20:
            self.stop.set()

    def resident(self):
        status = pathlib.Path(f"/proc/{self.bench.service.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))

    def report(self):
        for (operation, name), count in sorted(self.counts.items()):
            print(f"{operation:10} {name:28} {count:9}")
        quarter = max(1, len(self.memory) // 4)
        begin, end = max(self.memory[:quarter]), max(self.memory[-quarter:])
        print(f"longest answer {self.longest:.2f} s; memory {begin / 1024:.1f} MiB, at the end {end / 1024:.1f} MiB")
        if end > begin + 10 * 1024:
            self.problem("memory grows")
        print("no problem" if not self.problems else f"{len(self.problems)} problems")
        return 1 if self.problems else 0


class Connection:
    """A connection that signs what it sends."""

    def __init__(self, bench):
        self.address, self.credential = bench.address, bench.credential
        self.connection = http.client.HTTPConnection(self.address, timeout=30)

    def ask(self, operation, body):
        text = json.dumps(body).encode()
        path = f"/bench/kms/xks/v1/{operation}"
        self.connection.request("POST", path, text, self.headers(path, text))
        response = self.connection.getresponse()
        return response.status, json.loads(response.read())

    def headers(self, path, body):
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        scope = [moment[:8], self.credential["REGION"], "kms-xks-proxy", "aws4_request"]
        canonical = "\n".join(["POST", path, "", f"host:{self.address}", f"x-amz-date:{moment}", "",
                               "host;x-amz-date", hashlib.sha256(body).hexdigest()])
        to_sign = "\n".join(["AWS4-HMAC-SHA256", moment, "/".join(scope),
                             hashlib.sha256(canonical.encode()).hexdigest()])
        key = ("AWS4" + self.credential["SECRET_ACCESS_KEY"]).encode()
        for part in [*scope, to_sign]:
            key = hmac.digest(key, part.encode(), "sha256")
        return {
            "x-amz-date": moment,
            "content-type": "application/json",
            "authorization": f"AWS4-HMAC-SHA256 Credential={self.credential['ACCESS_KEY_ID']}/{'/'.join(scope)}, "
                             f"SignedHeaders=host;x-amz-date, Signature={key.hex()}",
        }


AAD = base64.b64encode(b"project=nile").decode()


def request():
    return {"requestMetadata": {
        "awsPrincipalArn": "arn:aws:iam::123456789012:user/Alice", "kmsOperation": "Encrypt",
        "kmsKeyArn": "arn:aws:kms:eu-central-1:123456789012:key/1", "kmsRequestId": os.urandom(8).hex()}}


def encrypt(plaintext, checked):
    body = dict(request(), plaintext=base64.b64encode(plaintext).decode(), encryptionAlgorithm="AES_GCM",
                additionalAuthenticatedData=AAD)
    return dict(body, ciphertextDataIntegrityValueAlgorithm="SHA_256") if checked else body


def decrypt(fields):
    return dict(request(), **fields, encryptionAlgorithm="AES_GCM", additionalAuthenticatedData=AAD)


def cdiv(fields):
    parts = [AAD, *(fields[name] for name in ("ciphertextMetadata", "initializationVector", "ciphertext",
                                             "authenticationTag"))]
    return base64.b64encode(hashlib.sha256(b"".join(map(base64.b64decode, parts))).digest()).decode()


if __name__ == "__main__":
    main()
