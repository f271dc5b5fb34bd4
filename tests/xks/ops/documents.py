"""What we write for operators: complete, and true as far as a test can tell."""

import json
import re
import unittest

from common import BINARY, PACKAGING, ROOT, main, run
from expressions import DASHBOARD, RULES, dashboard, metrics_in

PAGE = (ROOT / "docs/operations.md").read_text()
SOURCES = ROOT / "xks-proxy/src"


class Page(unittest.TestCase):
    def test_every_alert_says_what_to_do(self):
        alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
        headings = re.findall(r"(?m)^### (Twinlock\w+)$", PAGE)
        self.assertTrue(alerts)
        self.assertEqual(sorted(alerts), sorted(headings))

    def test_every_metric_that_is_used_is_explained(self):
        used = set().union(metrics_in(RULES.read_text()), *map(metrics_in, dashboard().values()))
        explained = set(re.findall(r"`(twinlock_xks_\w+)`", PAGE))
        self.assertTrue(used)
        self.assertEqual({re.sub("_(bucket|count|sum)$", "", name) for name in used} - explained, set())

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

    def test_its_links_lead_somewhere(self):
        headings = re.findall(r"(?m)^#+ (.*)$", PAGE)
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        for target in re.findall(r"\]\(([^)]+)\)", PAGE):
            file, _, anchor = target.partition("#")
            self.assertTrue(not file or (ROOT / "docs" / file).exists(), target)
            self.assertTrue(file or anchor in anchors, target)


class Dashboard(unittest.TestCase):
    def test_its_panels_have_names_and_places_of_their_own(self):
        panels = json.loads(DASHBOARD.read_text())["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        taken = set()
        for panel in panels:
            at = panel["gridPos"]
            places = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            self.assertLessEqual(at["x"] + at["w"], 24, panel["title"])
            self.assertFalse(places & taken, panel["title"])
            taken |= places


class Rules(unittest.TestCase):
    def test_each_alert_fires_and_stays_silent_where_it_has_to(self):
        tests = ROOT / "tests/xks/ops/rules-test.yml"
        run("promtool", "test", "rules", tests)
        tried = set(re.findall(r"alertname: (\w+)\n        exp_alerts:\n", tests.read_text()))
        self.assertEqual(tried, set(re.findall(r"- alert: (\w+)", RULES.read_text())))


class Policy(unittest.TestCase):
    def test_the_example_decides_as_its_cases_say(self):
        said = run(BINARY, "policy", "test", "--policy", PACKAGING / "policy.rego", "--cases", PACKAGING / "policy-cases.toml")
        self.assertEqual(len(re.findall(r"(?m)^ok ", said)), said.count("\n"))


def fields_of(file, name):
    found = re.search(rf"pub struct {name} \{{(.*?)^\}}", (SOURCES / file).read_text(), re.MULTILINE | re.DOTALL)
    return re.findall(r"(?m)^    pub (\w+):", found[1])


if __name__ == "__main__":
    main()
