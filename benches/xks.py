#!/usr/bin/env python3
"""The XKS proxy under load, beside what its token does without it.

    benches/xks.py [--seconds N] [--rounds N] [--cases WORD,...]
    benches/xks.py --memory

Makes SoftHSM tokens in a folder of its own, starts the release build of
`twinlock-xks` on a loopback address without TLS, and sends it signed requests
from the same processors. The limit, operations of one PKCS#11 session with
nothing around it, is measured in the same run, in turns. Medians of the rounds.

Needs SoftHSM (softhsm2-util) and the release builds of `twinlock`,
`twinlock-xks`, `xks_load` and the example `throughput`, which it builds.
"""

import argparse
import json
import os
import pathlib
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
MODULE = os.environ.get("TWINLOCK_SOFTHSM_MODULE", "/usr/lib/softhsm/libsofthsm2.so")
PIN = "1234"


def main():
    arguments = arguments_of(__doc__, memory=True)
    if not arguments.no_build:
        build()
    if arguments.memory:
        return memory()
    print_head()
    for group in GROUPS:
        group.run(Bench, arguments)


def arguments_of(what, memory=False):
    parser = argparse.ArgumentParser(description=what.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", default="", help="words that names of cases have")
    parser.add_argument("--no-build", action="store_true")
    if memory:
        parser.add_argument("--memory", action="store_true", help="after a million requests, nothing else")
    return parser.parse_args()


def print_head():
    print("| case | connections | requests/s | / limit | must be | p50 ms | p99 ms | CPU, us | above limit's | failed |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")


def build():
    build_all(
        ["-p", "twinlock-xks"],
        ["-p", "twinlock-cli"],
        ["-p", "twinlock-benches", "--bin", "xks_load"],
        ["-p", "twinlock-pkcs11", "--example", "throughput"],
        ["-p", "twinlock-p11-fault"],
    )


def build_all(*packages):
    for what in packages:
        subprocess.run(["cargo", "build", "--quiet", "--release", "--locked", *what], cwd=ROOT, check=True)


class Case:
    """What to ask, over how many connections, and what it is compared with."""

    def __init__(self, name, ask, connections, limit=None, must_be="", how=()):
        self.name, self.ask, self.connections = name, ask, connections
        self.limit, self.must_be, self.how = limit, must_be, how


class Group:
    """Cases with one token and one proxy."""

    def __init__(self, cases, keys=4, sessions=1, delay=None, hung=False):
        self.cases, self.keys, self.sessions, self.delay, self.hung = cases, keys, sessions, delay, hung

    def run(self, bench, arguments):
        """The cases that are wanted, on a `bench` of their own."""
        words = [word for word in arguments.cases.split(",") if word]
        cases = [case for case in self.cases if not words or any(word in case.name for word in words)]
        if cases:
            with bench(self) as running:
                running.run(cases, arguments)


GROUPS = [
    Group([
        Case("Encrypt", "encrypt", (16, 64), "encrypt", "0.60 or more; p99 at 16 below 2.5"),
        Case("Encrypt, replayed", "encrypt", (16, 64), "encrypt", "0.60 or more", how=["replay"]),
        Case("Decrypt", "decrypt", (16, 64), "decrypt", "0.60 or more"),
        Case("Encrypt, 1,800/s", "encrypt", (16,), "encrypt", "CPU 68 us or less above limit's", how=["1800"]),
        Case("Encrypt with CDIV", "encrypt-checked", (16, 64), "encrypt and decrypt", "0.60 or more"),
        Case("GetKeyMetadata", "metadata", (16,), "livez", "0.50 or more"),
        Case("GetHealthStatus", "health", (16,), "livez", "0.50 or more"),
    ]),
    Group([Case("Encrypt, 500 keys", "encrypt", (16,), "encrypt", "as with 4 keys, within 0.10")], keys=500),
    Group([Case("Encrypt, 2 ms HSM", "encrypt", (64,), None, "5,000/s, p99 < 25 ms")], sessions=30, delay="2ms"),
    Group([Case("Encrypt, 10 ms HSM", "encrypt", (64,), None, "2,500/s, p99 < 60 ms")], sessions=30, delay="10ms"),
    Group([Case("Encrypt, 10 ms HSM, a session hung", "encrypt", (64,), None, "29/30 of the row above")],
          sessions=30, delay="10ms", hung=True),
]


class Bench:
    """A token, a service, and the folder of both."""

    program = "twinlock-xks"
    example = "throughput"  # of twinlock-pkcs11: the bare session
    processors = None  # for the service and the bare session, if not all
    load_processors = None

    def __init__(self, group):
        self.group = group
        self.folder = tempfile.TemporaryDirectory(prefix=f"{self.program}-")
        self.path = pathlib.Path(self.folder.name)
        self.address, self.operations = free_address(), free_address()

    def __enter__(self):
        self.environment = dict(os.environ, SOFTHSM2_CONF=str(self.path / "softhsm2.conf"))
        self.make_token()
        self.make_keys()
        self.configure()
        self.start()
        if self.group.hung:
            self.faults("C_Encrypt hang times 1\n")
        return self

    def __exit__(self, *_):
        self.service.send_signal(signal.SIGTERM)
        self.service.wait(30)
        self.folder.cleanup()

    def make_token(self):
        (self.path / "tokens").mkdir()
        (self.path / "softhsm2.conf").write_text(
            f"directories.tokendir = {self.path}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
        self.private("pin", PIN)
        self.quietly("softhsm2-util", "--init-token", "--free", "--label", "bench", "--so-pin", "0000", "--pin", PIN)

    def make_keys(self):
        for name in ["health", *(f"key-{number}" for number in range(self.group.keys))]:
            self.quietly(TARGET / "release/twinlock", "keys", "create", self.uri(name))

    def quietly(self, *command):
        subprocess.run(command, env=self.environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def uri(self, name):
        return f"pkcs11:token=bench;object={name}?module-path={MODULE}&pin-source=file:{self.path}/pin"

    def configure(self):
        self.credential = dict(ACCESS_KEY_ID="BENCH" * 5, SECRET_ACCESS_KEY=secrets.token_hex(24), REGION="eu-central-1")
        self.private("secret", self.credential["SECRET_ACCESS_KEY"])
        module = MODULE
        if self.group.delay:
            module = TARGET / "release/libtwinlock_p11_fault.so"
            self.faults()
            self.environment.update(P11_FAULT_MODULE=MODULE, P11_FAULT_CONTROL=str(self.path / "faults"))
        keys = "".join(
            f'[[key_store.key]]\nid = "k{number}"\nhsms = ["a"]\n'
            f'generations = [{{ number = 1, object = "key-{number}" }}]\n'
            for number in range(self.group.keys))
        (self.path / "config.toml").write_text(f'''
state_directory = "{self.path}"
listen = {{ address = "{self.address}", plain_http = true }}
operations = {{ address = "{self.operations}" }}
log = {{ requests = "{self.path}/requests.log", events = "{self.path}/events.log" }}
[[hsm]]
name = "a"
token = "pkcs11:token=bench?module-path={module}"
pin = {{ file = "{self.path}/pin" }}
sessions = {self.group.sessions}
health_key = "health"
[[key_store]]
path = "/bench"
regions = ["eu-central-1"]
[[key_store.credential]]
access_key_id = "{self.credential['ACCESS_KEY_ID']}"
secret_access_key = {{ file = "{self.path}/secret" }}
{keys}''')

    def faults(self, first=""):
        """What the injecting module does, in the place of what it did."""
        lines = [f"{function} delay {self.group.delay}\n" for function in ("C_Encrypt", "C_Decrypt")]
        (self.path / "faults.new").write_text(first + "".join(lines))
        (self.path / "faults.new").rename(self.path / "faults")

    def private(self, name, text):
        file = self.path / name
        file.touch(0o600)
        file.write_text(text)

    def start(self):
        self.service = subprocess.Popen(
            [TARGET / "release" / self.program, "serve", "--config", self.path / "config.toml"], env=self.environment,
            preexec_fn=on(self.processors))
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://{self.operations}/readyz", timeout=1).read()
                return
            except OSError:
                time.sleep(0.1)
        sys.exit(f"{self.program} does not become ready")

    def run(self, cases, arguments):
        found = {}
        for _ in range(arguments.rounds):
            for case in cases:
                for connections in case.connections:
                    found.setdefault((case, connections), []).append(
                        (*self.limit(case, arguments.seconds), *self.load(case, connections, arguments.seconds)))
        for (case, connections), rounds in found.items():
            self.report(case, connections, rounds)

    def load(self, case, connections, seconds):
        """What came of asking, and seconds of a processor that each request took."""
        command, environment = self.asking(case, connections, seconds)
        before = self.cpu_seconds()
        output = subprocess.run(
            command, env={**self.environment, **environment}, check=True, capture_output=True, text=True,
            preexec_fn=on(self.load_processors)).stdout
        outcome = json.loads(output)
        # The warming up is a fifth of the time, and asks as quickly.
        return outcome, (self.cpu_seconds() - before) / (outcome["answered"] * 1.2)

    def asking(self, case, connections, seconds):
        """The command that does, and its variables."""
        address = self.operations if case.ask == "livez" else self.address
        keys = ",".join(f"k{number}" for number in range(self.group.keys))
        return [TARGET / "release/xks_load", address, "/bench", keys, case.ask, str(connections), str(seconds),
                *case.how], self.credential

    def limit(self, case, seconds):
        """What the case cannot be better than: a second's count, and a call's seconds of a processor."""
        if case.limit is None:
            return None, None
        if case.limit == "livez":
            outcome, cpu = self.load(Case("", "livez", (16,)), 16, seconds / 2)
            return outcome["per_second"], cpu
        rate = next((word for word in case.how if word.isdigit()), "0")
        return self.bare(case.limit, self.uri("key-0"), RATE=rate)

    def bare(self, operation, uri, **variables):
        """The same of one session with nothing around it."""
        environment = dict(self.environment, BARE="1", ROUNDS="1", SECONDS="1", **variables)
        output = subprocess.run([TARGET / "release/examples" / self.example, uri], env=environment, check=True,
                                capture_output=True, text=True, preexec_fn=on(self.processors)).stdout
        lines = (line.split(" bare ") for line in output.splitlines() if " bare " in line)
        per_second, _, session_us, _ = next(rest.split() for of, rest in lines if of.strip() == operation)
        return float(per_second), float(session_us) / 1e6

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.service.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mib(self):
        status = pathlib.Path(f"/proc/{self.service.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def report(self, case, connections, rounds):
        median = lambda of: statistics.median(of(*one) for one in rounds)
        per_second, p50, p99 = (
            median(lambda limit, bare, outcome, cpu: outcome[name]) for name in ("per_second", "p50_ms", "p99_ms"))
        cpu = f"{median(lambda limit, bare, outcome, cpu: cpu) * 1e6:.0f}"
        ratio = above = "-"
        if case.limit:
            ratio = f'{median(lambda limit, bare, outcome, cpu: outcome["per_second"] / limit):.2f}'
            above = f"{median(lambda limit, bare, outcome, cpu: cpu - bare) * 1e6:.0f}"
        failed = sum(outcome["failed"] for _, _, outcome, _ in rounds)
        print(f"| {case.name} | {connections} | {per_second:,.0f} | {ratio} | {case.must_be} | {p50:.2f} | {p99:.2f} "
              f"| {cpu} | {above} | {failed} |", flush=True)


def memory():
    """Resident memory after a thousand requests and after a million."""
    encrypt = Case("", "encrypt", (16,))
    with Bench(Group([])) as bench:
        answered = 0
        for wanted in (1_000, 1_000_000):
            while answered < wanted:
                seconds = 0.1 if wanted == 1_000 else 5
                answered += bench.load(encrypt, 16, seconds)[0]["answered"]
            print(f"{answered:>9,} requests: {bench.resident_mib():.1f} MiB resident", flush=True)


def on(processors):
    """Has a process that is about to start run on these alone, if there are any."""
    return processors and (lambda: os.sched_setaffinity(0, processors))


def free_address():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


if __name__ == "__main__":
    main()
