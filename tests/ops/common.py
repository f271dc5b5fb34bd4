"""What the checks share."""

import dataclasses
import os
import pathlib
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE_DATE = 1_700_000_000
VERSION = "0.1.0"


@dataclasses.dataclass(frozen=True)
class Service:
    """One of the services, by its program."""

    name: str
    folder: str
    page: str

    @property
    def packaging(self):
        return ROOT / self.folder / "packaging"

    @property
    def rules(self):
        return self.packaging / "prometheus-rules.yml"

    @property
    def dashboard(self):
        return self.packaging / "grafana-dashboard.json"

    @property
    def prefix(self):
        """Of its metrics."""
        return self.name.replace("-", "_") + "_"

    @property
    def binary(self):
        variable = self.name.upper().replace("-", "_") + "_BINARY"
        return pathlib.Path(os.environ.get(variable, ROOT / "target/debug" / self.name))


SERVICES = {
    "twinlock-xks": Service("twinlock-xks", "xks-proxy", "operations.md"),
    "twinlock-dke": Service("twinlock-dke", "dke-service", "dke.md"),
}

# The one that is looked at, and its program; what needs no program of ours takes a
# smaller one.
SERVICE = SERVICES[os.environ.get("TWINLOCK_SERVICE", "twinlock-xks")]
PACKAGING = SERVICE.packaging
BINARY = SERVICE.binary
SMALL = pathlib.Path("/usr/bin/true")


class Failed(Exception):
    """A command ended otherwise than it had to."""


def run(*command, code=0, env=None, stderr=subprocess.STDOUT, **options):
    """Its output and, if nothing else is said, its errors."""
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(SOURCE_DATE), **(env or {})}
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=stderr,
                          text=True, env=env, check=False, **options)
    if done.returncode != code:
        raise Failed(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr or ''}")
    return done.stdout


def main():
    unittest.main(module=sys.modules["__main__"], verbosity=1)
