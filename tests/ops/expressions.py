"""Has Debian's Prometheus scrape a service and evaluate each expression that we ship.

    expressions.py HOST:PORT        the service's operations listener

TWINLOCK_SERVICE says which one it is: twinlock-xks (default) or twinlock-dke. Fails if
Prometheus refuses an expression, or if one names a metric that the service does not
export or a label that none of its series has: such an alert would stay silent for
ever. Prints what could not be checked because nothing was counted yet; with
--all-labels that is a failure, too.
"""

import argparse
import contextlib
import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

from common import SERVICE

PATIENCE = 60  # seconds; it takes three
PREFIX = SERVICE.prefix
JOB = SERVICE.name
FROM_PROMETHEUS = {"instance", "job", "le"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--all-labels", action="store_true", help="every metric has to have been counted")
    options = parser.parse_args()
    with prometheus(options.address) as ask:
        wait_for_scrapes(ask)
        complaints, unknown = check(ask, rules(ask) | dashboard())
    if unknown:
        print("nothing counted yet:", *sorted(unknown))
    if options.all_labels:
        complaints += [f"{metric}: nothing was counted" for metric in sorted(unknown)]
    if complaints:
        sys.exit("\n".join(complaints))
    print("OK")


def check(ask, expressions):
    """Complaints, and the metrics without any series."""
    types = exported(ask)
    series = {name: labels_of(ask, name) for name in ask("label/__name__/values") if name.startswith(PREFIX)}
    complaints, unknown = [], set()
    if not expressions:
        complaints.append("there are no expressions")
    for name, expression in expressions.items():
        problem = evaluate(ask, expression)
        if problem:
            complaints.append(f"{name}: {problem}")
        used = metrics_in(expression)
        complaints += [f"{name}: the service exports no {metric}" for metric in sorted(used - names_of(types))]
        seen = [series[metric] for metric in used if metric in series]
        unknown |= {metric for metric in used & names_of(types) if metric not in series}
        if used and len(seen) == len(used):
            missing = labels_in(expression) - set().union(*seen) - FROM_PROMETHEUS
            complaints += [f"{name}: no series has the label {label}" for label in sorted(missing)]
    return complaints, unknown


# === What is shipped ===


def rules(ask):
    """As Prometheus itself reads them from the file."""
    groups = ask("rules")["groups"]
    return {rule["name"]: rule["query"] for group in groups for rule in group["rules"]}


def dashboard():
    """Each query of a panel, with what Grafana puts in the place of variables."""
    found = {}
    for panel in json.loads(SERVICE.dashboard.read_text())["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", "1m")
            found[f"panel {panel['title']}, {target['refId']}"] = re.sub(r"\$(instance|key_store|key)\b", ".*", expression)
    return found


def metrics_in(expression):
    return set(re.findall(rf"\b{PREFIX}\w+", expression))


def labels_in(expression):
    """In selectors, and in the lists of by, on and group_left."""
    matchers = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression)
    lists = re.findall(r"\b(?:by|on|group_left|without)\s*\(([^)]*)\)", expression)
    return set(matchers) | {label.strip() for found in lists for label in found.split(",") if label.strip()}


# === What the service exports ===


def exported(ask):
    """By name, as it is declared: a metric is there before anything was counted."""
    found = {one["metric"]: one["type"] for one in ask("targets/metadata", match_target=f'{{job="{JOB}"}}')}
    return {name: kind for name, kind in found.items() if name.startswith(PREFIX)}


def names_of(types):
    """The names of the series behind each declared name."""
    suffixes = {"histogram": ["_bucket", "_count", "_sum"], "counter": ["_total"]}
    return {name + suffix for name, kind in types.items() for suffix in suffixes.get(kind, [""])}


def labels_of(ask, name):
    return {label for one in ask("series", **{"match[]": name}) for label in one}


def evaluate(ask, expression):
    try:
        ask("query", query=expression)
    except Refused as refused:
        return str(refused)
    return None


# === Prometheus ===


class Refused(Exception):
    """What Prometheus said of a question."""


@contextlib.contextmanager
def prometheus(target):
    """A server that scrapes the target every second; yields how to ask its API."""
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "prometheus.yml"
        config.write_text(json.dumps({  # JSON is YAML
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(SERVICE.rules)],
            "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": [target]}]}],
        }))
        checked = subprocess.run(["promtool", "check", "config", config], capture_output=True, text=True, check=False)
        if checked.returncode != 0:
            sys.exit(checked.stdout + checked.stderr)
        port = free_port()
        log = pathlib.Path(folder) / "log"
        with log.open("w") as output:
            server = subprocess.Popen(
                ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
                 f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            yield api(port, server, log)
        finally:
            server.terminate()
            server.wait()


def api(port, server, log):
    def ask(path, **parameters):
        if server.poll() is not None:
            sys.exit(f"prometheus has ended:\n{log.read_text()}")
        url = f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise Refused(json.load(error)["error"] if error.code == 400 else error) from error

    return ask


def wait_for_scrapes(ask):
    until, problem = time.monotonic() + PATIENCE, "prometheus does not answer"
    while time.monotonic() < until:
        # It answers 503 until it is ready, and refuses connections before that.
        with contextlib.suppress(urllib.error.URLError, Refused):
            problems = [target["lastError"] for target in ask("targets")["activeTargets"]]
            problem = "".join(problems) or "no scrape yet"
            scrapes = ask("query", query=f'count_over_time(up{{job="{JOB}"}}[1m]) and up == 1')["result"]
            if scrapes and int(scrapes[0]["value"][1]) >= 2:
                return
        time.sleep(0.2)
    sys.exit(f"two scrapes did not succeed in {PATIENCE} s: {problem}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main()
