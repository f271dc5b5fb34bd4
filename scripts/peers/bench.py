"""Times tools side by side on the same bytes, and reports medians and ratios.

Started by scripts/bench-peers, which installs what the tools need.

Every tool first encrypts and decrypts once, unmeasured: that its output comes back
to the same bytes is checked then, and the memory and the page cache are warm after.
In each round every tool encrypts to a fresh file and decrypts that to another, and
both are removed. On a disk, each command ends when its output is there: tools
that do not see to that are followed by `sync` of what they wrote.
"""

import argparse
import collections
import filecmp
import os
import pathlib
import platform
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from tools import HERE, TOOLS, clean, program, python

ROOT = HERE.parent.parent
BEGIN, END = "<!-- bench-peers: begin -->", "<!-- bench-peers: end -->"
TREE_FILE_LEN = 4096

Run = collections.namedtuple("Run", "wall cpu peak")  # seconds, seconds, bytes

# Wall times: of the first tool over that of the second, at most.
Requirement = collections.namedtuple("Requirement", "tool other most")
FILE_REQUIREMENTS = {
    True: [Requirement("twinlock", "cp", 0.8)],
    False: [Requirement("twinlock", "cp", 1.0)],
}
PEER_REQUIREMENTS = [
    Requirement("twinlock", "age", 1 / 3.3),
    Requirement("twinlock", "rage", 1 / 4.2),
    Requirement("twinlock", "openssl", 1 / 2.4),
    Requirement("twinlock", "gpg", 1 / 6),
]
TREE_REQUIREMENTS = [
    Requirement("twinlock-softhsm", "cp", 2.5),
    Requirement("twinlock-softhsm", "age", 1 / 20),
]


def main():
    options = parse(sys.argv[1:])
    chosen = [tool for tool in TOOLS if tool.name in options.tools]
    if options.needs:
        print(*dict.fromkeys(["time"] + [need for tool in chosen for need in tool.needs]))
        return
    if str(options.report) != "-":
        around_section(options.report)  # found missing now, not in an hour
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="twinlock-peers-") as keys:
        tools = [make(tool, pathlib.Path(keys)) for tool in chosen]
        try:
            tables = [line for folder in options.folders for line in compare(tools, folder, options)]
            report(options, [*facts(tools, options), *tables])
        finally:
            for tool in tools:
                tool.close()


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="scripts/bench-peers", description="Twinlock beside other tools, on the same bytes."
    )
    names = [tool.name for tool in TOOLS]
    parser.add_argument("folders", nargs="*", type=pathlib.Path, default=[pathlib.Path("/dev/shm")],
                        metavar="FOLDER", help="where to work: in memory or on a disk (default: /dev/shm)")
    parser.add_argument("--size", type=size, default=4 << 30, help="of the file; 0 leaves it out (default: 4GiB)")
    parser.add_argument("--tree", type=int, default=10_000, metavar="FILES",
                        help="how many files of 4 KiB; 0 leaves them out (default: 10000)")
    parser.add_argument("--sample", type=int, default=1000, metavar="FILES",
                        help="how many of them a tool gets that runs once for each; its time is scaled (default: 1000)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--tools", type=lambda text: text.split(","), default=names, help=f"of {','.join(names)}")
    parser.add_argument("--report", default=ROOT / "docs/benchmarks.md",
                        help="the file whose marked section is replaced, or - (default: docs/benchmarks.md)")
    parser.add_argument("--quick", action="store_true", help="4 MiB, 20 files, one round, to stdout")
    parser.add_argument("--needs", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if unknown := set(options.tools) - set(names):
        parser.error(f"no such tool: {', '.join(sorted(unknown))}")
    if options.quick:
        options.size, options.tree, options.sample, options.rounds, options.report = 4 << 20, 20, 20, 1, "-"
    return options


def size(text):
    found = re.fullmatch(r"(\d+)(|KiB|MiB|GiB)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text} is no size: 512MiB, 4GiB")
    return int(found[1]) << {"": 0, "KiB": 10, "MiB": 20, "GiB": 30}[found[2]]


def make(tool, keys):
    folder = keys / tool.name
    folder.mkdir(mode=0o700)
    return tool(folder)


# === One folder ===


def compare(tools, folder, options):
    """The tables of one folder, as lines."""
    in_memory = is_in_memory(folder)
    check_room(folder, in_memory, options)
    place = "in memory-backed storage" if in_memory else "on a disk"
    lines = []
    with tempfile.TemporaryDirectory(prefix="twinlock-peers-", dir=folder) as work:
        work = pathlib.Path(work)
        if options.size:
            with_files = [tool for tool in tools if not tool.trees_only]
            make_file(work / "input", options.size)
            runs = measure([FileJob(tool, work, not in_memory) for tool in with_files], options.rounds)
            lines += tables(f"A file of {shown_size(options.size)} {place}", runs)
            peers = PEER_REQUIREMENTS if in_memory else []
            lines += verdicts(FILE_REQUIREMENTS[in_memory] + peers, runs)
            (work / "input").unlink()
        if options.tree:
            make_tree(work, options.tree, options.sample)
            jobs = [TreeJob(tool, work, not in_memory, options) for tool in tools]
            runs = measure(jobs, options.rounds)
            lines += tables(f"{options.tree} files of 4 KiB {place}", runs)
            lines += verdicts(TREE_REQUIREMENTS, runs)
    return lines


class FileJob:
    """One tool on the file."""

    scale = 1

    def __init__(self, tool, work, sync):
        self.tool, self.sync = tool, sync and not tool.syncs
        self.source = work / "input"
        self.encrypted, self.back = work / f"{tool.name}.out{tool.suffix}", work / f"{tool.name}.back"

    def encrypt(self):
        return self.run(self.tool.encrypt(self.source, self.encrypted), self.encrypted)

    def decrypt(self):
        return self.run(self.tool.decrypt(self.encrypted, self.back), self.back)

    def run(self, command, output):
        if self.sync:
            command = ["sh", "-c", 'output=$1; shift; "$@" && find "$output" -exec sync {} +', "sh", output, *command]
        return timed(command, self.tool.environment(), self.scale)

    def verify(self):
        """A benchmark of a wrong result is worth nothing."""
        if not filecmp.cmp(self.source, self.back, shallow=False):
            sys.exit(f"{self.tool.name}: what came back differs from what went in")

    def remove(self):
        for path in (self.encrypted, self.back):
            path.unlink(missing_ok=True)


class TreeJob(FileJob):
    """One tool on the tree, or on a part of it where it runs once for each file."""

    def __init__(self, tool, work, sync, options):
        super().__init__(tool, work, sync)
        self.source = work / ("tree" if tool.whole_trees else "sample")
        if not tool.whole_trees:
            self.scale = options.tree / min(options.tree, options.sample)
        self.encrypted = work / f"{tool.name}.out"

    def encrypt(self):
        return self.run(self.tool.encrypt_tree(self.source, self.encrypted), self.encrypted)

    def decrypt(self):
        return self.run(self.tool.decrypt_tree(self.encrypted, self.back), self.back)

    def verify(self):
        names = sorted(path.name for path in self.source.iterdir())
        back = sorted(path.name for path in self.back.iterdir())
        _, differing, missing = filecmp.cmpfiles(self.source, self.back, names, shallow=False)
        if names != back or differing or missing:
            sys.exit(f"{self.tool.name}: the tree that came back differs from what went in")

    def remove(self):
        for path in (self.encrypted, self.back):
            shutil.rmtree(path, ignore_errors=True)


def measure(jobs, rounds):
    """For each tool's name, the runs in both directions."""
    runs = {job.tool.name: {"encrypt": [], "decrypt": []} for job in jobs}
    for count in range(rounds + 1):
        # Another one comes first each time, for what came before one leaves traces.
        first = count % len(jobs)
        for job in jobs[first:] + jobs[:first]:
            try:
                both = {"encrypt": job.encrypt(), "decrypt": job.decrypt()}
                if count == 0:
                    job.verify()
                    continue
                for direction, run in both.items():
                    runs[job.tool.name][direction].append(run)
            finally:
                job.remove()
    return runs


def timed(command, environment, scale):
    """One run, with its children. By `time`, since a child's peak would be at
    least that of this interpreter, from which it was forked."""
    with tempfile.NamedTemporaryFile(mode="r") as usage:
        command = ["/usr/bin/time", "-o", usage.name, "-f", "%U %S %M", *map(str, command)]
        start = time.perf_counter()
        child = subprocess.Popen(command, env=clean(environment), start_new_session=True,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            _, errors = child.communicate()
        except BaseException:
            os.killpg(child.pid, signal.SIGTERM)
            child.wait()
            raise
        wall = time.perf_counter() - start
        if child.returncode:
            sys.exit(f"{shlex.join(command)}\nended with {child.returncode}: {errors.decode(errors='replace')}")
        user, system, peak = usage.read().split()[-3:]
    return Run(wall * scale, (float(user) + float(system)) * scale, int(peak) << 10)


def make_file(path, length):
    with open(path, "xb") as file:
        while length:
            length -= file.write(os.urandom(min(length, 1 << 20)))


def make_tree(work, files, sample):
    (work / "tree").mkdir()
    (work / "sample").mkdir()
    for number in range(files):
        path = work / "tree" / f"{number:06}"
        path.write_bytes(os.urandom(TREE_FILE_LEN))
        if number < sample:
            os.link(path, work / "sample" / path.name)


def is_in_memory(folder):
    kind = subprocess.run(["stat", "-f", "-c", "%T", folder], check=True, capture_output=True, text=True)
    return kind.stdout.strip() in ("tmpfs", "ramfs")


def check_room(folder, in_memory, options):
    """Input, encrypted and decrypted, with some to spare; in memory, others need some too."""
    needed = 3 * max(options.size, options.tree * 2 * TREE_FILE_LEN) * 11 // 10
    room = shutil.disk_usage(folder).free
    if in_memory:
        room = min(room, available_memory() - (1 << 30))
    if room < needed:
        sys.exit(f"{folder} has room for {shown_size(room)}, and {shown_size(needed)} are needed: see --size")


def available_memory():
    text = pathlib.Path("/proc/meminfo").read_text()
    return int(re.search(r"MemAvailable:\s+(\d+) kB", text)[1]) << 10


# === The report ===


def tables(title, runs):
    lines = [f"### {title}", ""]
    for direction in ("encrypt", "decrypt"):
        medians = {name: median(of[direction]) for name, of in runs.items()}
        lines += [f"| {direction} | wall, s | / twinlock | / cp | CPU, s | / twinlock | / cp | peak, MiB |",
                  "| --- | --- | --- | --- | --- | --- | --- | --- |"]
        lines += [row(name, run, medians) for name, run in medians.items()]
        lines += [""]
    return lines


def verdicts(requirements, runs):
    """Which of them hold, of those whose tools ran."""
    lines = ["| wall time / wall time | encrypt | decrypt | must be | |", "| --- | --- | --- | --- | --- |"]
    for tool, other, most in requirements:
        if tool not in runs or other not in runs:
            continue
        ratios = [median(runs[tool][way]).wall / median(runs[other][way]).wall for way in ("encrypt", "decrypt")]
        cells = [f"{value:.3f}" for value in [*ratios, most]]
        verdict = "met" if max(ratios) <= most else "not met"
        lines.append(f"| {tool} / {other} | {cells[0]} | {cells[1]} | {cells[2]} or less | {verdict} |")
    return [*lines, ""] if len(lines) > 2 else []


def row(name, run, medians):
    cells = [name]
    for kind in ("wall", "cpu"):
        value = getattr(run, kind)
        cells += [f"{value:.2f}"] + [ratio(value, medians.get(base), kind) for base in ("twinlock", "cp")]
    return f"| {' | '.join(cells)} | {run.peak / (1 << 20):.0f} |"


def ratio(value, base, kind):
    base = base and getattr(base, kind)
    return f"{value / base:.2f}" if base else "–"


def median(runs):
    return Run(*(statistics.median(values) for values in zip(*runs)))


def facts(tools, options):
    cpu = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    lines = [
        f"{os.cpu_count()} processors ({cpu[1] if cpu else platform.machine()}), {memory / (1 << 30):.0f} GiB, "
        f"{platform.system()} {platform.release()}. Medians of {options.rounds} rounds, in turns, each into "
        "a fresh file; random bytes. On a disk, the time runs until the output is on it.",
    ]
    if options.tree > options.sample:
        lines[0] += (f" Tools that run once for each file had {options.sample} of the "
                     f"{options.tree}, and their times are scaled.")
    lines += ["", "| tool | version | what it does | command |", "| --- | --- | --- | --- |"]
    return [*lines, *(fact(tool) for tool in tools), ""]


def fact(tool):
    command = tool.encrypt_tree("FROM", "TO") if tool.trees_only else tool.encrypt("FROM", "TO")
    text = shlex.join(map(str, command))
    shown = [(program(), "twinlock")] if "twinlock" in tool.needs else []
    shown += [(python(), "python3"), (f"{HERE}/", ""), (str(tool.keys), "KEYS")]
    shown += [(value, "…") for value in tool.secrets()]
    for long, short in shown:
        text = text.replace(long, short)
    return f"| {tool.name} | {tool.version()} | {tool.note} | `{text}` |"


def report(options, lines):
    text = "\n".join(lines).rstrip()
    if str(options.report) == "-":
        print(text)
        return
    before, after = around_section(options.report)
    pathlib.Path(options.report).write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def around_section(path):
    before, found, rest = pathlib.Path(path).read_text().partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        sys.exit(f"{path} has no section between {BEGIN} and {END}; --report - prints")
    return before, after


def shown_size(length):
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if length >= 1 << shift:
            return f"{length / (1 << shift):.3g} {unit}"
    return f"{length} bytes"


if __name__ == "__main__":
    main()
