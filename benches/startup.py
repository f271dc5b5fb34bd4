#!/usr/bin/env python3
"""Prints what a run of `twinlock` takes before and beside its work: time from
start to exit against `age`, and memory.

    benches/startup.py [ROUNDS]

Wants `twinlock` built for release (TWINLOCK_BINARY names another), `age`, SoftHSM,
and moto for the memory with a cloud's client (`scripts/test --setup`). Files lie
in /dev/shm, where syncing costs nothing: `age` does not sync, and we do.

Time: each command in turn, 200 rounds, medians. Memory: what wait4(2) says, of runs
with two threads.
"""

import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
TWINLOCK = os.environ.get("TWINLOCK_BINARY", str(TARGET / "release/twinlock"))
MODULE = os.environ.get("TWINLOCK_SOFTHSM_MODULE", "/usr/lib/softhsm/libsofthsm2.so")
MOTO = ROOT / ".tools/venv/bin/moto_server"
PIN = "7391-user"
THREADS = ["--threads", "2"]
MEBIBYTE = 1 << 20


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        os.chdir(folder)
        keys, hsm = set_up()
        times(rounds, keys, hsm)
        with_cloud(lambda arn: memory(arn, hsm))


def set_up():
    """The flags for keys in files, and for a provider's key in a file with a
    customer's in SoftHSM."""
    os.environ["TWINLOCK_CONFIG"] = os.path.abspath("none.toml")
    os.environ["SOFTHSM2_CONF"] = os.path.abspath("softhsm2.conf")
    Path("none.toml").touch()
    Path("tokens").mkdir()
    Path("softhsm2.conf").write_text(f"directories.tokendir = {os.path.abspath('tokens')}\n")
    Path("pin").write_text(PIN)
    Path("pin").chmod(0o600)
    quiet("softhsm2-util", "--init-token", "--free", "--label", "t", "--so-pin", "0000", "--pin", PIN)
    files = [f"file://{os.path.abspath(name)}.kek" for name in ("provider", "customer")]
    token = f"pkcs11:token=t;object=k?module-path={MODULE}&pin-source=file:{os.path.abspath('pin')}"
    for uri in [*files, token]:
        quiet(TWINLOCK, "keys", "create", uri)
    quiet("age-keygen", "-o", "age.key")
    Path("in").write_bytes(os.urandom(1024))
    return [
        ["--provider", files[0], "--customer", customer] for customer in (files[1], token)
    ]


def times(rounds, keys, hsm):
    recipient = subprocess.run(["age-keygen", "-y", "age.key"], capture_output=True, check=True)
    age = ["age", "-r", recipient.stdout.decode().strip(), "-o", "in.age", "in"]
    commands = {
        "age": (age, ["age", "-d", "-i", "age.key", "-o", "out", "in.age"]),
        "files": both(keys, "files.twl"),
        "SoftHSM": both(hsm, "hsm.twl"),
    }
    taken = {(name, way): [] for name in [*commands, "token"] for way in (0, 1)}
    for number in range(rounds + 5):
        for name, ways in commands.items():
            for way, command in enumerate(ways):
                seconds = run(command)[0]
                taken[name, way] += [seconds] if number >= 5 else []
        token = token_alone()
        for way in (0, 1):
            taken["token", way] += [token] if number >= 5 else []
    middle = {key: statistics.median(values) for key, values in taken.items()}
    print("start to exit of a 1 KiB file           encrypt  decrypt  must be")
    row("keys in files, against age", [middle["files", way] / middle["age", way] for way in (0, 1)], 2)
    with_token = [
        (middle["SoftHSM", way] - middle["token", way]) / middle["age", way] for way in (0, 1)
    ]
    row("SoftHSM, less the token's own, likewise", with_token, 2)


def both(keys, name):
    return (
        [TWINLOCK, "encrypt", "-q", "--force", *keys, "-o", name, "in"],
        [TWINLOCK, "decrypt", "-q", "--force", *keys, "-o", "out", name],
    )


def row(what, ratios, most):
    print(f"{what:40}" + "".join(f"{ratio:7.2f}  " for ratio in ratios) + f"{most}")


def token_alone():
    """Seconds to load, initialise, log in and finalise, in a process that has
    done nothing else."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        start = time.perf_counter()
        log_in()
        os.write(write, str(time.perf_counter() - start).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        return float(pipe.read())


def log_in():
    # CK_FUNCTION_LIST: a version, then the functions in the order of PKCS#11.
    module = ctypes.CDLL(MODULE)
    functions = ctypes.POINTER(ctypes.c_void_p)()
    assert module.C_GetFunctionList(ctypes.byref(functions)) == 0

    def call(at, *arguments):
        function = ctypes.CFUNCTYPE(ctypes.c_ulong, *([ctypes.c_void_p] * len(arguments)))
        result = function(functions[at + 1])(*arguments)
        assert result == 0, f"function {at}: {result:#x}"

    initialise = (ctypes.c_ulong * 6)(0, 0, 0, 0, 2, 0)  # CKF_OS_LOCKING_OK
    slots, count, session = (ctypes.c_ulong * 16)(), ctypes.c_ulong(16), ctypes.c_ulong()
    call(0, ctypes.addressof(initialise))
    call(4, 1, ctypes.addressof(slots), ctypes.addressof(count))  # C_GetSlotList
    call(12, slots[0], 4, None, None, ctypes.addressof(session))  # C_OpenSession
    call(18, session.value, 1, PIN.encode(), len(PIN))  # C_Login
    call(1, None)


def memory(arn, hsm):
    keys = ["--provider", f"aws-kms://{arn}", *hsm[2:]] if arn else hsm
    keys = [*keys, *THREADS]
    print(f"\npeak memory, MiB, SoftHSM {'and AWS KMS' if arn else 'alone: there is no moto'}"
          "       encrypt  decrypt  must be")
    for what, len_ in [("a file of 1 KiB", 1 << 10), ("a file of 1 GiB", 1 << 30)]:
        with open("data", "wb") as file:
            file.truncate(len_)
        peaks = [
            run([TWINLOCK, "encrypt", "-q", "--force", *keys, "-o", "data.twl", "data"])[1],
            run([TWINLOCK, "decrypt", "-q", "--force", *keys, "-o", "data", "data.twl"])[1],
        ]
        row(what, peaks, 24)
    part = [TWINLOCK, "decrypt", "-q", "--force", *keys, "--range", "1..900000001", "-o", "data", "data.twl"]
    print(f"{'a range of it':40}         {run(part)[1]:7.2f}  24")
    os.remove("data")
    with open("data.twl", "rb") as file, open("/dev/null", "wb") as null:
        opened = run([TWINLOCK, "decrypt", "-q", *keys, "-"], file, null)[1]
    with open("/dev/zero", "rb") as zero:
        head = subprocess.Popen(["head", "-c", str(1 << 30)], stdin=zero, stdout=subprocess.PIPE)
        with open("/dev/null", "wb") as null:
            sealed = run([TWINLOCK, "encrypt", "-q", *keys, "-"], head.stdout, null)[1]
        head.wait()
    os.remove("data.twl")
    row("1 GiB through a stream", [sealed, opened], 24)
    Path("tree").mkdir()
    for number in range(200):
        Path(f"tree/{number}").write_bytes(bytes(10_000 * (number % 100)))
    peaks = [
        run([TWINLOCK, "encrypt", "-q", *keys, "-r", "tree", "-o", "sealed"])[1],
        run([TWINLOCK, "decrypt", "-q", *keys, "-r", "sealed", "-o", "opened"])[1],
    ]
    row("a tree of 200 files", peaks, 24)


def with_cloud(work):
    """Calls `work` with the ARN of a key in moto, or with nothing without moto."""
    if not MOTO.is_file():
        return work(None)
    log = open("moto.log", "w+")
    server = subprocess.Popen([MOTO, "-H", "127.0.0.1", "-p", "0"], stdout=log, stderr=log)
    try:
        while "Running on " not in (said := Path("moto.log").read_text()):
            time.sleep(0.1)
        os.environ |= {
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL_KMS": said.split("Running on ")[1].split()[0],
        }
        created = quiet(TWINLOCK, "keys", "create", "aws-kms://alias/bench")
        return work(created.split("aws-kms://")[1].split()[0])
    finally:
        server.terminate()
        server.wait()


def run(command, stdin=None, stdout=None):
    """Seconds from start to exit, and the most memory in MiB. (Of which this
    program's own is counted too, as long as it is the child's; it is less.)"""
    files = [(os.POSIX_SPAWN_OPEN, 2, "err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)]
    for number, file in [(0, stdin), (1, stdout)]:
        files += [(os.POSIX_SPAWN_DUP2, file.fileno(), number)] if file else []
    start = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ, file_actions=files)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - start
    if status != 0:
        sys.exit(f"{' '.join(command)}: {Path('err').read_text()}")
    return seconds, usage.ru_maxrss * 1024 / MEBIBYTE


def quiet(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
    return done.stdout


main()
