"""The Debian package, and the unit and the SBOM in it."""

import json
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

from common import BINARY, PACKAGING, ROOT, SERVICE, SMALL, VERSION, main, run

NAME = SERVICE.name
SCRIPT = ROOT / "scripts" / NAME.replace("twinlock", "package")
# Something that is in its program.
CRATES = {"twinlock-xks": "regorus", "twinlock-dke": "jsonwebtoken"}


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.file = package(BINARY, cls.folder.name)
        cls.tree = pathlib.Path(cls.folder.name) / "tree"
        run("dpkg-deb", "--raw-extract", cls.file, cls.tree)

    def test_its_program_runs(self):
        self.assertEqual(run(self.tree / "usr/bin" / NAME, "--version"), f"{NAME} {VERSION}\n")

    def test_it_says_what_it_needs(self):
        control = (self.tree / "DEBIAN/control").read_text()
        self.assertIn(f"\nVersion: {VERSION}\n", control)
        self.assertRegex(control, r"\nDepends: .*\blibc6 \(>= 2\.\d+\).*, systemd\n")

    def test_only_what_people_change_is_a_conffile(self):
        conffiles = (self.tree / "DEBIAN/conffiles").read_text().split()
        self.assertEqual(conffiles, [f"/etc/logrotate.d/{NAME}", f"/etc/{NAME}/config.toml"])
        self.assertTrue(all((self.tree / name[1:]).is_file() for name in conffiles))

    def test_it_enables_and_starts_nothing(self):
        links = [path for path in self.tree.rglob("*") if path.is_symlink()]
        scripts = "".join(path.read_text() for path in (self.tree / "DEBIAN").glob("p*"))
        self.assertEqual(links, [])
        self.assertNotRegex(scripts, r"\b(enable|start|restart|preset)\b")

    def test_everything_belongs_to_root_and_nobody_else_writes(self):
        for line in run("dpkg-deb", "--contents", self.file).splitlines():
            self.assertRegex(line, r"^[-d]rw[x-]r-[x-]r-[x-] root/root ")

    def test_debian_finds_nothing_wrong(self):
        said = run("lintian", "--allow-root", "--fail-on=warning,error", self.file)
        self.assertEqual(said, "")

    def test_it_has_the_licences_of_what_is_in_it(self):
        doc = self.tree / "usr/share/doc" / NAME
        notices = run("gzip", "-dc", doc / "third-party-licenses.txt.gz")
        for crate in ("rustls", "cryptoki", CRATES[NAME]):
            self.assertRegex(notices, rf"(?m)^{crate} \d")
        self.assertIn("Permission is hereby granted", (doc / "copyright").read_text())


class SameAgain(unittest.TestCase):
    def test_the_same_program_makes_the_same_package(self):
        packages = []
        for umask, zone in ((0o022, "UTC"), (0o077, "Asia/Tokyo")):
            with tempfile.TemporaryDirectory() as folder:
                before = os.umask(umask)
                try:
                    packages.append(package(SMALL, folder, {"TZ": zone}).read_bytes())
                finally:
                    os.umask(before)
        self.assertEqual(*packages)

    def test_what_is_no_program_is_refused(self):
        said = run(SCRIPT, "--binary", __file__, "/nonexistent", code=2)
        self.assertIn("no program for Linux", said)


class Unit(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.unit = pathlib.Path(folder.name) / f"{NAME}.service"
        # Neither the program nor its manual page is installed here.
        text = (PACKAGING / f"{NAME}.service").read_text().replace(f"/usr/bin/{NAME}", str(SMALL))
        self.unit.write_text(re.sub(r"(?m)^Documentation=.*\n", "", text))

    def test_systemd_understands_it(self):
        self.assertEqual(run("systemd-analyze", "verify", self.unit), "")

    def test_it_is_hardened(self):
        # In tenths; what remains is the network, and its user.
        run("systemd-analyze", "security", "--offline=true", "--threshold=20", self.unit)

    def test_its_user_and_folders_can_be_made(self):
        with tempfile.TemporaryDirectory() as root:
            (pathlib.Path(root) / "etc").mkdir()
            run("systemd-sysusers", f"--root={root}", PACKAGING / "sysusers.conf")
            self.assertRegex((pathlib.Path(root) / "etc/passwd").read_text(), r"(?m)^" + NAME + ":.*nologin$")
            if os.geteuid() == 0:
                run("systemd-tmpfiles", f"--root={root}", "--create", PACKAGING / "tmpfiles.conf")
                pins = pathlib.Path(root) / f"etc/{NAME}/pins"
                self.assertEqual((pins.stat().st_mode & 0o777, pins.stat().st_uid), (0o700, 0))


class Sbom(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # Cargo says on stderr that it waits for another one.
        cls.bom = json.loads(run(ROOT / "scripts/sbom", "--package", NAME, stderr=subprocess.PIPE))

    def test_it_has_what_the_schema_requires(self):
        """CycloneDX 1.6: bom-1.6.schema.json, "required" of each object, and its patterns."""
        self.assertEqual((self.bom["bomFormat"], self.bom["specVersion"], self.bom["version"]), ("CycloneDX", "1.6", 1))
        self.assertRegex(self.bom["serialNumber"], r"^urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
        self.assertEqual(self.bom["metadata"]["timestamp"], "2023-11-14T22:13:20Z")
        for component in self.everything():
            self.assertIn(component["type"], ("application", "library"))
            self.assertIn(component["scope"], ("required", "excluded"))
            self.assertTrue(component["name"] and component["version"] and component["bom-ref"])
            for checksum in component.get("hashes", []):
                self.assertEqual(checksum["alg"], "SHA-256")
                self.assertRegex(checksum["content"], r"^[0-9a-f]{64}$")
            for licence in component["licenses"]:
                self.assertEqual(list(licence), ["expression"])
            for reference in component.get("externalReferences", []):
                self.assertTrue(reference["type"] and reference["url"])
        for dependency in self.bom["dependencies"]:
            self.assertIn("ref", dependency)

    def test_its_references_lead_somewhere(self):
        names = [component["bom-ref"] for component in self.everything()]
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual(sorted(names), sorted(one["ref"] for one in self.bom["dependencies"]))
        self.assertLessEqual({to for one in self.bom["dependencies"] for to in one["dependsOn"]}, set(names))

    def test_it_has_what_is_in_the_program_with_the_checksums_of_the_lock(self):
        lock = (ROOT / "Cargo.lock").read_text()
        shipped = {one["name"]: one for one in self.bom["components"] if one["scope"] == "required"}
        for name in ("aws-lc-sys", "cryptoki", "hyper", "rustls", "twinlock-pkcs11"):
            self.assertIn(name, shipped)
        for component in self.bom["components"]:
            for checksum in component.get("hashes", []):
                self.assertIn(f'name = "{component["name"]}"\nversion = "{component["version"]}"', lock)
                self.assertIn(f'checksum = "{checksum["content"]}"', lock)

    def test_it_has_nothing_else(self):
        names = {one["name"] for one in self.bom["components"]}
        shipped = {one["name"] for one in self.bom["components"] if one["scope"] == "required"}
        self.assertFalse(names & {"aws-sigv4", "proptest", "twinlock", "twinlock-cli", "aws-sdk-kms"})
        self.assertFalse(shipped & {"cc", "serde_derive", "syn"})

    def everything(self):
        return [self.bom["metadata"]["component"], *self.bom["components"]]


def package(binary, folder, env=None):
    return pathlib.Path(run(SCRIPT, "--binary", binary, folder, env=env).splitlines()[-1])


if __name__ == "__main__":
    main()
