"""The cache beside nginx's, and beside files: what a hit costs, how long 100,000 keys take to load, and whether hits
notice the manager and the loader at work. Medians of alternating rounds. bench/cache says what there is."""

import argparse
import hashlib
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import bench
import scenarios

WHAT = ["hit", "load", "upkeep"]
AIM = {"hit": 0.60, "file": 1.2, "load": 2.0}

CONFIGURATION = """
daemon off; worker_processes 1; %(user)s pid %(dir)s/pid; error_log %(dir)s/error.log error;
worker_rlimit_nofile 20000; events { worker_connections 4096; }
http {
    access_log off; default_type text/plain; sendfile on; tcp_nopush on; keepalive_requests 1000000000; %(temp)s
    proxy_cache_path %(dir)s/cache levels=1:2 keys_zone=bench:32m inactive=1d use_temp_path=off %(more)s;
    server {
        listen 127.0.0.1:%(port)d backlog=4096; root %(files)s;
        location /file/ { alias %(files)s/; open_file_cache max=4000 inactive=600s; open_file_cache_valid 600s; }
        location /hit/ { proxy_pass http://127.0.0.1:%(origin)d/; proxy_cache bench; proxy_cache_valid 1d; }
    }
}
"""


class Bench:
    def __init__(self, options):
        self.options, self.rows, self.aims = options, {}, []
        self.names = ("weir",) if options.smoke else ("weir", "nginx")
        self.binaries = {"weir": options.weir_binary, "nginx": options.nginx_binary}
        self.base = tempfile.mkdtemp(prefix="weir-cache-", dir=options.directory)
        os.chmod(self.base, 0o755)
        self.files = os.path.join(self.base, "files")
        os.makedirs(self.files)
        with open(os.path.join(self.files, "1k"), "wb") as f:
            f.write(b"k" * 1024)
        self.origin = self.start("nginx", "origin", 0, core=1)

    def start(self, name, directory=None, origin=None, more="", core=0):
        directory = os.path.join(self.base, directory or name)
        os.makedirs(directory, exist_ok=True)
        os.chmod(directory, 0o755)
        port = bench.free_port()
        conf = CONFIGURATION % {
            "dir": directory, "port": port, "files": self.files, "more": more,
            "origin": port if origin == 0 else self.origin.port,
            "temp": scenarios.temp(self.binaries[name], directory),
            "user": "user root;" if os.geteuid() == 0 else ""}
        return bench.Server(name, self.binaries[name], core, directory, conf, port)

    def row(self, what, unit, **values):
        for name, value in values.items():
            self.rows.setdefault((what, unit), {}).setdefault(name, []).append(value)

    def hit(self):
        """CPU per request of one worker: a hit of both, a file of both."""
        scripts = {}
        for path in ("/hit/file/1k", "/file/1k"):
            scripts[path] = os.path.join(self.base, path.strip("/").replace("/", "-") + ".lua")
            with open(scripts[path], "w") as f:
                f.write(scenarios.lua(scenarios.Scenario("hit", "return", path, ""), False))
        servers = [self.start("weir"), self.start("nginx")]
        try:
            for server in servers:
                for path in scripts:
                    status, _, body = bench.fetch(server.port, path, [])
                    if b" 200" not in status or body != b"k" * 1024:
                        raise bench.Refused(f"{server.name} answers {path} with {status}")
            time.sleep(0 if self.options.smoke else 1)
            for round_ in range(self.options.rounds + (0 if self.options.smoke else 1)):
                for path, script in scripts.items():
                    for server in servers:
                        worker = children_named(server, "worker")
                        before = bench.cpu(worker)
                        result = bench.wrk(server, script, self.options.seconds, 1)
                        after = bench.cpu(worker)
                        if any(result[k] for k in ("connect", "read", "write", "status", "timeout")):
                            raise bench.Refused(f"{server.name}, {path}: {result}")
                        if round_ or self.options.smoke:
                            us = (sum(after) - sum(before)) * 1e6 / result["requests"]
                            self.row("a hit of 1 KiB" if "hit" in path else "a file of 1 KiB, `open_file_cache` on",
                                     "CPU µs", **{server.name: us})
        finally:
            for server in servers:
                server.stop()
        hit = {n: statistics.median(v) for n, v in self.rows[("a hit of 1 KiB", "CPU µs")].items()}
        file = self.rows[("a file of 1 KiB, `open_file_cache` on", "CPU µs")]
        self.aim("hit beside nginx's hit", hit["weir"] / max(hit["nginx"], 0.01), AIM["hit"])
        self.aim("hit beside our own file", hit["weir"] / max(statistics.median(file["weir"]), 0.01), AIM["file"])

    def load(self):
        """From the loader's start to its end with a directory of many files."""
        count = self.options.keys
        for name in self.names:
            for _ in range(1 if name == "nginx" else self.options.rounds):
                make_files(os.path.join(self.base, name, "cache"), count)
                server = self.start(name, more="loader_files=1000 loader_sleep=0")
                try:
                    began = time.monotonic()
                    loader = children_named(server, "loader")
                    # nginx's begins a minute after the start.
                    while loader and os.path.exists(f"/proc/{loader[0]}") and state(loader[0]) != "Z":
                        if time.monotonic() - began > 120:
                            raise bench.Refused(f"{name}'s loader does not end")
                        time.sleep(0.001)
                    took = time.monotonic() - began - (60 if name == "nginx" else 0)
                    self.row(f"{count:,} keys loaded", "s", **{name: took})
                    left = sum(len(f) for _, _, f in os.walk(os.path.join(self.base, name, "cache")))
                    if left < count:
                        raise bench.Refused(f"{name} keeps {left} files of {count}")
                finally:
                    server.stop()
        self.aim("loading, s", statistics.median(self.rows[(f"{count:,} keys loaded", "s")]["weir"]), AIM["load"])

    def upkeep(self):
        """Hits at a modest rate, alone and while files are loaded and evicted without a pause. The client has a core
        to itself; whatever a server runs, its cache processes too, shares the other: the same for both servers."""
        tool = bench.build_tool("openloop", self.base)
        more = ("loader_files=1000 loader_sleep=0 manager_files=1000 manager_sleep=1ms "
                f"max_size={self.options.keys // 10}k")
        for _ in range(self.options.rounds):
            for name in self.names:
                for busy in (False, True):
                    self.upkeep_round(tool, name, busy, more)
        p99 = {n: statistics.median(v) for n, v in self.rows[("p99 of a hit", "µs")].items()}
        for name in self.names:
            self.aim(f"{name}: p99 while manager and loader work, to p99 alone",
                     p99[f"{name}, upkeep"] / max(p99[f"{name}, quiet"], 1), None)

    def upkeep_round(self, tool, name, busy, more):
        cache = os.path.join(self.base, name, "cache")
        shutil.rmtree(cache, ignore_errors=True)
        make_files(cache, self.options.keys if busy else 0)
        server = self.start(name, more=more)
        try:
            bench.fetch(server.port, "/hit/file/1k", [])
            if busy and name == "nginx":
                # Its loader begins a minute after the start, and there is nothing to evict before.
                time.sleep(60 - min(1, self.options.seconds / 2))
            files = self.upkeep_files(cache)
            result = bench.open_loop(tool, server, "/hit/file/1k", self.options.rate,
                                     max(1, round(self.options.seconds)), 1, [], 32)
            evicted = files - self.upkeep_files(cache)
            if busy and name == "weir" and evicted <= 0 and not self.options.smoke:
                raise bench.Refused("nothing was evicted during the run")
            row = f"{name}, {'upkeep' if busy else 'quiet'}"
            self.row("p50 of a hit", "µs", **{row: result["p50_us"]})
            self.row("p99 of a hit", "µs", **{row: result["p99_us"]})
            if busy:
                self.row("files evicted meanwhile", "", **{row: evicted})
        finally:
            server.stop()

    @staticmethod
    def upkeep_files(cache):
        return sum(len(f) for _, _, f in os.walk(cache))

    def aim(self, what, value, most):
        self.aims.append((what, value, most))

    def table(self):
        yield "| | | median | rounds |"
        yield "|---|---|---|---|"
        for (what, unit), by in self.rows.items():
            for name, values in by.items():
                yield (f"| {what}{', ' + unit if unit else ''} | {name} | {statistics.median(values):.2f} | "
                       f"{' '.join(f'{v:.2f}' for v in values)} |")
        yield ""
        yield "| aim | measured | at most |"
        yield "|---|---|---|"
        for what, value, most in self.aims:
            yield f"| {what} | {value:.2f} | {'' if most is None else most} |"


def state(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


def children_named(server, word):
    """The server's processes whose title has this word; a loader may be gone already."""
    deadline = time.monotonic() + (1 if word == "loader" else 10)
    while time.monotonic() < deadline:
        found = []
        for pid in bench.children(server.process.pid):
            try:
                with open(f"/proc/{pid}/cmdline") as f:
                    if re.search(word, f.read()):
                        found.append(pid)
            except OSError:
                pass
        if found:
            return found
        time.sleep(0.001)
    if word == "loader":
        return []
    raise bench.Refused(f"{server.name} has no {word}: {server.story()}")


def make_files(directory, count):
    """Files with names as a cache has them: neither loader looks into one."""
    made = 0
    for i in range(count):
        name = hashlib.md5(str(i).encode()).hexdigest()
        folder = os.path.join(directory, name[-1], name[-3:-1])
        path = os.path.join(folder, name)
        if not os.path.exists(path):
            os.makedirs(folder, exist_ok=True)
            with open(path, "wb") as f:
                f.write(b"\0" * 1024)
            made += 1
    return made


def main():
    parser = argparse.ArgumentParser(prog="bench/cache")
    parser.add_argument("what", nargs="*", choices=[*WHAT, []])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--note", default="", help="a sentence for the result, as on what else ran")
    parser.add_argument("--result")
    parser.add_argument("--directory", help="where the files are made; the usual place for temporary ones unless told")
    parser.add_argument("--weir-binary", default=os.path.join(bench.ROOT, "artifacts/bin/weir"))
    parser.add_argument("--nginx-binary", default=shutil.which("nginx") or "/usr/sbin/nginx")
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.seconds, options.keys, options.rate = 1, 1, 2000, 500
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run, failed, chosen = Bench(options), 0, options.what or WHAT
    try:
        for what in chosen:
            try:
                getattr(run, what)()
            except bench.Refused as e:
                print(f"refused: {what}: {e}", flush=True)
                failed += 1
    finally:
        run.origin.stop()
        shutil.rmtree(run.base, ignore_errors=True)
    if options.smoke:
        print(f"{len(chosen) - failed} passed, {failed} failed, 0 skipped")
        return 1 if failed else 0
    facts = bench.facts(options)
    text = "\n".join([
        "# The cache: hits, loading, upkeep", "",
        f"One worker on one core, client and origin on the other; medians of {options.rounds} alternating rounds. "
        f"{facts['weir']}, {facts['nginx']}, {facts['cpu']}, Linux {facts['kernel']}, {facts['date']}, commit "
        f"{facts['commit']}. {options.note}".strip(), "", *run.table(), ""])
    print(text)
    if options.result:
        with open(options.result, "w") as f:
            f.write(text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
