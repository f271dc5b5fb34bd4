"""The tools that are compared: how each is called, and what it needs.

A tool makes its keys once, then encrypts and decrypts a file or a tree: a folder
of files. One without a mode for trees runs one process for each file, as its users do.
"""

import os
import pathlib
import secrets
import shlex
import subprocess
import sys

HERE = pathlib.Path(__file__).parent


class Tool:
    """A tool without keys whose two directions are `cp`'s."""

    name = "cp"
    needs = []
    # What a reader has to know to judge the numbers.
    note = "copies"
    whole_trees = True
    trees_only = False
    syncs = False  # whether its output is on the disk when it ends
    suffix = ""  # of the name of an encrypted file

    def __init__(self, keys):
        """Makes its keys in a folder of its own."""
        self.keys = keys

    def version(self):
        return first_line(self.name, "--version")

    def encrypt(self, source, target):
        return ["cp", source, target]

    decrypt = encrypt

    def encrypt_tree(self, source, target):
        return ["cp", "-r", source, target]

    decrypt_tree = encrypt_tree

    def environment(self):
        return {}

    def secrets(self):
        """Words of its commands that say nothing to a reader."""
        return []

    def close(self):
        """Ends what it left running."""


class OneByOne(Tool):
    """One process for each file of a tree, started by a shell."""

    whole_trees = False

    def encrypt_tree(self, source, target):
        return for_each_file(self.encrypt, source, target)

    def decrypt_tree(self, source, target):
        return for_each_file(self.decrypt, source, target)


class Age(OneByOne):
    name = "age"
    needs = ["age"]
    note = "X25519, ChaCha20-Poly1305; 64 KiB pieces; authenticated"

    def __init__(self, keys):
        super().__init__(keys)
        self.identity = keys / "identity"
        run([self.name + "-keygen", "-o", self.identity])
        self.recipient = first_line(self.name + "-keygen", "-y", self.identity)

    def secrets(self):
        return [self.recipient]

    def encrypt(self, source, target):
        return [self.name, "-r", self.recipient, "-o", target, source]

    def decrypt(self, source, target):
        return [self.name, "-d", "-i", self.identity, "-o", target, source]


class Rage(Age):
    name = "rage"
    needs = ["rage"]


class Gpg(OneByOne):
    name = "gpg"
    needs = ["gpg"]
    note = "AES-256-CFB with MDC; no compression (random bytes do not shrink) and little hashing of the passphrase, which is a key here"

    def __init__(self, keys):
        super().__init__(keys)
        self.passphrase = keys / "passphrase"
        self.passphrase.write_text(secrets.token_hex(32))

    def close(self):
        run(["gpgconf", "--homedir", self.keys, "--kill", "all"])

    def common(self):
        return [
            *["gpg", "--batch", "--quiet", "--homedir", self.keys, "--pinentry-mode", "loopback"],
            *["--passphrase-file", self.passphrase, "--no-symkey-cache"],
        ]

    def encrypt(self, source, target):
        options = ["--cipher-algo", "AES256", "-z", "0", "--s2k-mode", "3", "--s2k-count", "65536"]
        return [*self.common(), *options, "-o", target, "--symmetric", source]

    def decrypt(self, source, target):
        return [*self.common(), "-o", target, "--decrypt", source]


class OpenSsl(OneByOne):
    name = "openssl"
    needs = ["openssl"]
    note = "AES-256-CTR with a raw key; authenticates nothing"

    def __init__(self, keys):
        super().__init__(keys)
        self.key, self.iv = secrets.token_hex(32), secrets.token_hex(16)

    def secrets(self):
        return [self.key, self.iv]

    def version(self):
        return first_line("openssl", "version")

    def encrypt(self, source, target):
        options = ["-K", self.key, "-iv", self.iv, "-in", source, "-out", target]
        return ["openssl", "enc", "-aes-256-ctr", *options]

    def decrypt(self, source, target):
        command = self.encrypt(source, target)
        return [*command[:2], "-d", *command[2:]]


class Rclone(Tool):
    name = "rclone"
    needs = ["rclone"]
    suffix = ".bin"  # which it adds to the names of files
    note = "crypt: XSalsa20-Poly1305 in 64 KiB pieces, names left alone; authenticated"

    def __init__(self, keys):
        super().__init__(keys)
        self.config = keys / "rclone.conf"
        password = first_line("rclone", "obscure", secrets.token_hex(32))
        self.config.write_text(
            f"[crypt]\ntype = crypt\nremote = /\npassword = {password}\n"
            "filename_encryption = off\ndirectory_name_encryption = false\n"
        )

    def version(self):
        return first_line("rclone", "version")

    def encrypt(self, source, target):
        return self.copy("copyto", source, self.remote(target))

    def decrypt(self, source, target):
        return self.copy("copyto", self.remote(source), target)

    def remote(self, path):
        return f"crypt:{path}".removesuffix(self.suffix)

    def encrypt_tree(self, source, target):
        return self.copy("copy", source, f"crypt:{target}")

    def decrypt_tree(self, source, target):
        return self.copy("copy", f"crypt:{source}", target)

    def copy(self, verb, source, target):
        return ["rclone", "--config", self.config, verb, source, target]


class Library(Tool):
    """A program of ours on a library for Python: one process for a tree."""

    needs = ["python"]
    program = package = ""

    def version(self):
        code = f"import importlib.metadata as m; print(m.version({self.package!r}))"
        return f"{self.package} {first_line(python(), '-c', code)}"

    def call(self, verb, source, target):
        return [python(), HERE / self.program, verb, self.key, source, target]

    def encrypt(self, source, target):
        return self.call("encrypt", source, target)

    def decrypt(self, source, target):
        return self.call("decrypt", source, target)

    encrypt_tree, decrypt_tree = encrypt, decrypt


class Esdk(Library):
    name = "esdk"
    note = "AWS Encryption SDK for Python, raw AES keyring: AES-256-GCM, committing, unsigned, 256 KiB frames"
    program, package = "esdk.py", "aws-encryption-sdk"

    def __init__(self, keys):
        super().__init__(keys)
        self.key = keys / "key"
        self.key.write_bytes(secrets.token_bytes(32))


class Tink(Library):
    name = "tink"
    note = "Tink for Python, streaming AEAD: AES-256-GCM in 1 MiB segments"
    program, package = "tink_files.py", "tink"

    def __init__(self, keys):
        super().__init__(keys)
        self.key = keys / "keyset.json"
        run([python(), HERE / self.program, "keys", self.key])


class Twinlock(Tool):
    name = "twinlock"
    needs = ["twinlock"]
    syncs = True
    note = "both keys in files: AES-256-GCM (FLOE), authenticated and committing; on the disk when it ends"

    def __init__(self, keys):
        super().__init__(keys)
        self.provider, self.customer = (f"file://{keys / side}" for side in ("provider", "customer"))
        for uri in (self.provider, self.customer):
            run([program(), "keys", "create", "--quiet", uri], self.environment())

    def version(self):
        return first_line(program(), "--version")

    def holders(self):
        return ["--provider", self.provider, "--customer", self.customer]

    def encrypt(self, source, target):
        return [program(), "encrypt", "--quiet", *self.holders(), source, "-o", target]

    def decrypt(self, source, target):
        return [program(), "decrypt", "--quiet", *self.holders(), source, "-o", target]

    def encrypt_tree(self, source, target):
        return [program(), "encrypt", "--quiet", *self.holders(), "-r", source, "-o", target]

    def decrypt_tree(self, source, target):
        return [program(), "decrypt", "--quiet", *self.holders(), "-r", source, "-o", target]

    def environment(self):
        """Nothing that the user has set for other keys."""
        return {"XDG_CONFIG_HOME": str(self.keys)}


class TwinlockToken(Twinlock):
    name = "twinlock-softhsm"
    needs = ["twinlock", "softhsm"]
    trees_only = True
    note = "the customer's key in SoftHSM, the provider's in a file"

    def __init__(self, keys):
        Tool.__init__(self, keys)
        (keys / "tokens").mkdir()
        (keys / "softhsm2.conf").write_text(f"directories.tokendir = {keys / 'tokens'}\n")
        module = os.environ["SOFTHSM_MODULE"]
        run([program(), "init", "--quiet", "--softhsm", "--module", module, "--dev-provider"],
            self.environment())

    def holders(self):
        return []

    def environment(self):
        return super().environment() | {"SOFTHSM2_CONF": str(self.keys / "softhsm2.conf")}


TOOLS = [Twinlock, TwinlockToken, Tool, Age, Rage, OpenSsl, Gpg, Rclone, Esdk, Tink]


def for_each_file(command, source, target):
    """A shell's loop with `command` in it."""
    words = [str(word) for word in command("FROM", "TO")]
    quoted = " ".join({"FROM": '"$file"', "TO": '"$2/${file##*/}"'}.get(w, shlex.quote(w)) for w in words)
    script = f'mkdir "$2" && for file in "$1"/*; do {quoted} || exit; done'
    return ["sh", "-c", script, "sh", source, target]


def python():
    return os.environ.get("PEERS_PYTHON", sys.executable)


def program():
    return os.environ["TWINLOCK_BINARY"]


def clean(environment):
    """This process's environment without Twinlock's variables, and more."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TWINLOCK_")}
    return kept | environment


def run(command, environment=None):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                   env=clean(environment or {}))


def first_line(*command):
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=clean({}))
    return done.stdout.splitlines()[0]
