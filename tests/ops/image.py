"""The OCI image: a valid layout, whose program runs and takes a vendor's module."""

import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest

from common import BINARY, PACKAGING, ROOT, SMALL, SOURCE_DATE, VERSION, Failed, main, run

USER = "65532:65532"
IS_ROOT = os.geteuid() == 0
OWNER = "--same-owner" if IS_ROOT else "--no-same-owner"
CHROOT = (["/usr/sbin/chroot", f"--userspec={USER}"] if IS_ROOT
          else ["/usr/bin/unshare", "--map-root-user", "/usr/sbin/chroot"])
SOFTHSM = pathlib.Path(os.environ.get("TWINLOCK_SOFTHSM_MODULE", "/usr/lib/softhsm/libsofthsm2.so"))


class Image(unittest.TestCase):
    """Of the program, with SoftHSM in the vendor's place as a layer.

    OCI image specification 1.1: image-layout.md, manifest.md, config.md, layer.md.
    """

    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as folder:
            layer = pathlib.Path(folder) / "layer"
            add_softhsm(layer)
            program = pathlib.Path(folder) / "program"
            run("strip", "-o", program, BINARY)  # a test build is many times as large
            cls.files = entries(image(program, folder, "--layer", layer))
        cls.index = json.loads(cls.files["index.json"])
        cls.manifest = json.loads(cls.blob(cls.index["manifests"][0]))
        cls.config = json.loads(cls.blob(cls.manifest["config"]))
        cls.layers = [gzip.decompress(cls.blob(layer)) for layer in cls.manifest["layers"]]

    @classmethod
    def blob(cls, descriptor):
        algorithm, digest = descriptor["digest"].split(":")
        return cls.files[f"blobs/{algorithm}/{digest}"]

    def test_every_blob_is_what_its_descriptors_say(self):
        descriptors = [self.index["manifests"][0], self.manifest["config"], *self.manifest["layers"]]
        for descriptor in descriptors:
            content = self.blob(descriptor)
            self.assertEqual(descriptor["size"], len(content))
            self.assertEqual(descriptor["digest"], digest(content))
            self.assertRegex(descriptor["mediaType"], r"^application/vnd\.oci\.image\.")
        self.assertEqual(len(self.files), 2 + len(descriptors), "nothing else is in it")

    def test_versions_and_types_are_those_of_the_specification(self):
        self.assertEqual(json.loads(self.files["oci-layout"]), {"imageLayoutVersion": "1.0.0"})
        self.assertEqual((self.index["schemaVersion"], self.manifest["schemaVersion"]), (2, 2))
        self.assertEqual(self.manifest["config"]["mediaType"], "application/vnd.oci.image.config.v1+json")

    def test_the_layers_are_those_of_the_configuration(self):
        rootfs = self.config["rootfs"]
        self.assertEqual(rootfs["type"], "layers")
        self.assertEqual(rootfs["diff_ids"], [digest(layer) for layer in self.layers])
        self.assertEqual(len(self.config["history"]), len(self.layers))

    def test_it_runs_the_proxy_and_not_as_root(self):
        config = self.config["config"]
        self.assertEqual((config["User"], config["Entrypoint"], config["Cmd"]),
                         (USER, ["/usr/bin/twinlock-xks"], ["serve"]))
        self.assertEqual(self.config["os"], "linux")
        self.assertEqual(config["Labels"]["org.opencontainers.image.version"], VERSION)
        self.assertEqual(self.config["created"], "2023-11-14T22:13:20Z")

    def test_nothing_in_it_gives_rights(self):
        for layer in self.layers:
            for entry in tarfile.open(fileobj=io.BytesIO(layer)):
                self.assertFalse(entry.mode & 0o6000, entry.name)
                self.assertTrue(entry.issym() or entry.name == "tmp" or not entry.mode & 0o022, entry.name)
                self.assertEqual(entry.uid, 65532 if entry.name == "var/lib/twinlock-xks" else 0, entry.name)
                self.assertEqual(entry.mtime, SOURCE_DATE)

    def test_scanners_find_debians_packages(self):
        names = {entry.name for layer in self.layers for entry in tarfile.open(fileobj=io.BytesIO(layer))}
        self.assertLessEqual({f"var/lib/dpkg/status.d/{name}" for name in ("libc6", "libgcc-s1", "libstdc++6")}, names)

    def test_the_program_runs_in_it(self):
        with Unpacked(self.layers) as root:
            self.assertEqual(root.run("/usr/bin/twinlock-xks", "--version"), f"twinlock-xks {VERSION}\n")


    def test_a_vendors_module_works_with_the_packaged_example(self):
        with Unpacked(self.layers) as root:
            make_token(root.folder)
            said = root.run("/usr/bin/twinlock-xks", "check-config")
        self.assertIn("ok       hsm a: SoftHSM v2 (xks-a), logged in, the health key works\n", said)
        self.assertIn("ok       key /tenant-a:invoices:1:", said)


class Layers(unittest.TestCase):
    def test_links_of_the_merged_usr_are_kept(self):
        with tempfile.TemporaryDirectory() as folder:
            layer = pathlib.Path(folder) / "layer"
            (layer / "lib/vendor").mkdir(parents=True)
            (layer / "lib/vendor/a.so").write_text("a")
            (layer / "lib/vendor/b.so").symlink_to("a.so")
            added = layers_of(entries(image(SMALL, folder, "--layer", layer)))[-1]
        names = [entry.name for entry in tarfile.open(fileobj=io.BytesIO(added))]
        self.assertEqual(names, ["usr", "usr/lib", "usr/lib/vendor", "usr/lib/vendor/a.so", "usr/lib/vendor/b.so"])


class SameAgain(unittest.TestCase):
    def test_the_same_program_makes_the_same_image(self):
        images = []
        for _ in range(2):
            with tempfile.TemporaryDirectory() as folder:
                images.append(image(SMALL, folder).read_bytes())
        self.assertEqual(*images)

    def test_what_is_no_program_is_refused(self):
        said = run(sys.executable, ROOT / "scripts/image-xks", "--binary", __file__, "-o", "/nonexistent/x", code=1)
        self.assertIn("no program for Linux", said)


class Unpacked:
    """The layers as the root folder of a process, of the image's user where root
    may say so, and of a user who plays root in a namespace where not."""

    def __init__(self, layers):
        self._layers = layers

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.folder.chmod(0o755)
        for layer in self._layers:
            subprocess.run(["tar", "--extract", OWNER, "-C", self.folder], input=layer, check=True)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder)

    def run(self, *command):
        return run("env", "-i", "SOFTHSM2_CONF=/etc/softhsm2.conf", *CHROOT, self.folder, *command)


def image(binary, folder, *more):
    file = pathlib.Path(folder) / "image.tar"
    run(sys.executable, ROOT / "scripts/image-xks", "--binary", binary, "-o", file, *more)
    return file


def entries(file):
    with tarfile.open(file) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar if entry.isfile()}


def layers_of(files):
    index = json.loads(files["index.json"])
    blob = lambda it: files["blobs/" + it["digest"].replace(":", "/")]
    return [gzip.decompress(blob(layer)) for layer in json.loads(blob(index["manifests"][0]))["layers"]]


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


# === SoftHSM as a vendor's module ===


def add_softhsm(layer):
    """The module, the libraries that it needs and the image lacks, and the settings."""
    target = layer / "opt/vendor"
    target.mkdir(parents=True)
    shutil.copy(SOFTHSM, target / "libpkcs11.so")
    for name, path in re.findall(r"(\S+) => (/\S+)", run("ldd", SOFTHSM)):
        if not re.match(r"lib(c|m|gcc_s|stdc\+\+)\.so", name):
            (layer / "usr/lib").mkdir(parents=True, exist_ok=True)
            shutil.copy(path, layer / "usr/lib" / name)
    settings = layer / "etc/twinlock-xks"
    settings.mkdir(parents=True)
    (settings / "config.toml").write_text(adapted((PACKAGING / "config.toml").read_text()))
    (layer / "etc/softhsm2.conf").write_text("directories.tokendir = /var/lib/twinlock-xks/tokens\n")


def adapted(config):
    """The example with as little changed as possible."""
    changes = {
        'address = "0.0.0.0:443"\n': 'address = "127.0.0.1:8443"\nplain_http = true\n',
        '[listen.tls]\ncertificate = "/etc/twinlock-xks/tls/chain.pem" # the server\'s own first\n'
        'key = "/etc/twinlock-xks/tls/key.pem"           # mode 0640, group twinlock-xks\n': "",
        "/usr/lib/vendor/libpkcs11.so": "/opt/vendor/libpkcs11.so",
        '{ credential = "pin_a" }': '{ file = "/var/lib/twinlock-xks/pin" }',
        "/etc/twinlock-xks/secrets/tenant-a": "/var/lib/twinlock-xks/secret",
        "sessions = 30": "sessions = 1",
    }
    for before, after in changes.items():
        assert config.count(before) == 1, before
        config = config.replace(before, after)
    return config


def make_token(root):
    state = root / "var/lib/twinlock-xks"
    (state / "tokens").mkdir()
    private(state / "pin", "123456")
    private(state / "secret", "A" * 43)
    private(state / "key", "k" * 32)
    conf = state / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {state}/tokens\n")
    util = lambda *more: run("softhsm2-util", *more, "--pin", "123456", env={"SOFTHSM2_CONF": str(conf)})
    util("--init-token", "--free", "--label", "xks-a", "--so-pin", "12345678")
    for number, label in enumerate(("twinlock-health", "xks-invoices-1"), 1):
        util("--import", state / "key", "--aes", "--token", "xks-a", "--label", label, "--id", f"0{number}")
    if IS_ROOT:
        run("chown", "-R", USER, state)


def private(path, text):
    path.write_text(text)
    path.chmod(0o600)


if __name__ == "__main__":
    main()
