"""What the checks share."""

import os
import pathlib
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]
PACKAGING = ROOT / "xks-proxy/packaging"
SOURCE_DATE = 1_700_000_000
VERSION = "0.1.0"

# The program under test; what needs no program of ours takes a smaller one.
BINARY = pathlib.Path(os.environ.get("TWINLOCK_XKS_BINARY", ROOT / "target/debug/twinlock-xks"))
SMALL = pathlib.Path("/usr/bin/true")


class Failed(Exception):
    """A command ended otherwise than it had to."""


def run(*command, code=0, env=None, **options):
    """Its output and errors."""
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(SOURCE_DATE), **(env or {})}
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, env=env, check=False, **options)
    if done.returncode != code:
        raise Failed(f"{command[0]} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def main():
    unittest.main(module=sys.modules["__main__"], verbosity=1)
