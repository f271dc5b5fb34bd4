"""What we write for operators of a service: complete, and true as far as a test can tell."""

import json
import re
import unittest

from common import ROOT, SERVICE, main, run
from expressions import dashboard, metrics_in

PAGE = (ROOT / "docs" / SERVICE.page).read_text()
RULES = SERVICE.rules.read_text()
ALERTS = re.findall(r"- alert: (\w+)", RULES)


class Page(unittest.TestCase):
    def test_every_alert_says_what_to_do(self):
        headings = re.findall(r"(?m)^### (Twinlock\w+)$", PAGE)
        self.assertTrue(ALERTS)
        self.assertEqual(sorted(ALERTS), sorted(headings))

    def test_every_metric_that_is_used_is_explained(self):
        used = set().union(metrics_in(RULES), *map(metrics_in, dashboard().values()))
        explained = set(re.findall(rf"`({SERVICE.prefix}\w+)`", PAGE))
        self.assertTrue(used)
        self.assertEqual({re.sub("_(bucket|count|sum)$", "", name) for name in used} - explained, set())

    def test_its_links_lead_somewhere(self):
        headings = re.findall(r"(?m)^#+ (.*)$", PAGE)
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        for target in re.findall(r"\]\(([^)]+)\)", PAGE):
            if target.startswith("https://"):
                continue
            file, _, anchor = target.partition("#")
            self.assertTrue(not file or (ROOT / "docs" / file).exists(), target)
            self.assertTrue(file or anchor in anchors, target)


class Dashboard(unittest.TestCase):
    def test_its_panels_have_names_and_places_of_their_own(self):
        panels = json.loads(SERVICE.dashboard.read_text())["panels"]
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
        tests = ROOT / "tests/ops" / f"rules-test-{SERVICE.name}.yml"
        run("promtool", "test", "rules", tests)
        tried = set(re.findall(r"alertname: (\w+)\n        exp_alerts:\n", tests.read_text()))
        self.assertEqual(tried, set(ALERTS))


if __name__ == "__main__":
    main()
