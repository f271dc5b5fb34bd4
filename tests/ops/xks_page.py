"""What the page says of the XKS proxy alone, and its example of a policy."""

import re
import unittest

from common import BINARY, PACKAGING, ROOT, main, run

PAGE = (ROOT / "docs/operations.md").read_text()
SOURCES = ROOT / "xks-proxy/src"


class Page(unittest.TestCase):
    def test_every_field_of_a_record_is_explained(self):
        fields = fields_of("record.rs", "Record")
        self.assertIn("kms_request_id", fields)
        self.assertEqual([field for field in fields if f"`{field}`" not in PAGE], [])

    def test_every_setting_is_explained(self):
        text = PAGE[PAGE.index("## Configure"):PAGE.index("## The unit")]
        text += (PACKAGING / "config.toml").read_text()
        for name in ("Config", "HsmSettings", "KeyStoreSettings", "CredentialSettings", "KeySettings",
                     "GenerationSettings", "PolicySettings"):
            fields = fields_of("config.rs", name)
            self.assertTrue(fields, name)
            for field in fields:
                self.assertRegex(text, rf"\b{field}\b", f"{name}.{field}")

    def test_every_error_is_explained(self):
        names = re.findall(r'"(\w+Exception)"', (SOURCES / "error.rs").read_text())
        self.assertEqual(len(set(names)), 12)
        self.assertEqual([name for name in set(names) if f"| {name} (" not in PAGE], [])


class Policy(unittest.TestCase):
    def test_the_example_decides_as_its_cases_say(self):
        said = run(BINARY, "policy", "test", "--policy", PACKAGING / "policy.rego", "--cases", PACKAGING / "policy-cases.toml")
        self.assertEqual(len(re.findall(r"(?m)^ok ", said)), said.count("\n"))


def fields_of(file, name):
    found = re.search(rf"pub struct {name} \{{(.*?)^\}}", (SOURCES / file).read_text(), re.MULTILINE | re.DOTALL)
    return re.findall(r"(?m)^    pub (\w+):", found[1])


if __name__ == "__main__":
    main()
