"""Weir beside Kestrel under one ASP.NET Core application, on the JIT and as native code: the servers take turns on one
core, the client has the other, and what is compared is CPU time per request. A round with errors is refused. Figures
are medians of all rounds; the table says which aims are met."""

import argparse
import json
import os
import platform
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TICKS = os.sysconf("SC_CLK_TCK")
SERVERS = ["kestrel", "pool", "inline"]
# Kestrel with the runtime's own setting; the others have that of our package (docs/aspnetcore.md, "The thread pool").
AS_IT_COMES = "kestrel, pool spins"
SETTING = "DOTNET_ThreadPool_UnfairSemaphoreSpinLimit"
CLOSE = ["-H", "Connection: close"]
SCENARIOS = {
    "plaintext": ("/plaintext", []),
    "connection-per-request": ("/plaintext", CLOSE),
    "file-1k": ("/1k.bin", []),
    "file-100k": ("/100k.bin", []),
}
IDLE = "idle-memory"
ALLOCATED = "allocated"
TITLES = {
    "plaintext": "plaintext, 64 connections",
    "connection-per-request": "plaintext, a connection per request",
    "file-1k": "`UseStaticFiles`, 1 KiB",
    "file-100k": "`UseStaticFiles`, 100 KiB",
    IDLE: "memory per idle connection",
    ALLOCATED: "managed memory per plaintext request",
}
# At most this much of Kestrel's, with requests on the thread pool and on the loop.
AIMS = {
    "plaintext": (0.70, 0.55),
    "connection-per-request": (0.50, 0.50),
    "file-1k": (0.75, 0.75),
    "file-100k": (0.75, 0.75),
    IDLE: (0.50, 0.50),
}
# A round in which the JIT compiled fewer methods than this was a warm one.
COMPILED_MAX = 12
WARM_ROUNDS_MAX = 12


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, app, kind, directory):
        self.kind = kind
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        settings = {**os.environ, "DOTNET_gcServer": "0"}
        settings.pop(SETTING, None)
        if kind != AS_IT_COMES:
            settings[SETTING] = "0"
        self.process = subprocess.Popen(
            ["taskset", "-c", "0", app, kind.split(",")[0], self.url, directory],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=settings)
        for _ in range(600):
            try:
                self.ask("/plaintext")
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"{kind} does not answer")

    def ask(self, path):
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return answer.read()

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self):
        self.ask("/collect")
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) * 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def load(server, path, options, seconds):
    before = server.cpu()
    out = subprocess.run(
        ["taskset", "-c", "1", "wrk", "-t1", "-c64", f"-d{seconds}s", *options, server.url + path],
        capture_output=True, text=True, check=True).stdout
    used = server.cpu() - before
    requests = int(re.search(r"(\d+) requests in", out).group(1))
    if "Non-2xx" in out or re.search(r"Socket errors: connect [1-9]", out) or requests == 0:
        raise SystemExit(f"{server.kind} {path}: refused, it had errors\n{out}")
    return used * 1e6 / requests, requests


def warm(server, path, options):
    """Until the JIT has nothing left to do; native code is warm at once."""
    compiled = int(server.ask("/compiled"))
    for _ in range(WARM_ROUNDS_MAX):
        load(server, path, options, 2)
        now = int(server.ask("/compiled"))
        if now - compiled < COMPILED_MAX:
            return
        compiled = now


def allocated(server):
    """Managed bytes per request; asking costs some, so there are many."""
    before = int(server.ask("/allocated"))
    _, requests = load(server, "/plaintext", [], 1)
    return (int(server.ask("/allocated")) - before) / requests


def idle(server, connections):
    held = []
    server.memory()
    before = server.memory()
    for _ in range(connections):
        s = socket.create_connection(("127.0.0.1", server.port))
        s.sendall(b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n")
        got = b""
        while b"Hello, World!" not in got:
            got += s.recv(4096)
        held.append(s)
    time.sleep(1)
    bytes_each = (server.memory() - before) / connections
    for s in held:
        s.close()
    return bytes_each


def measure(app, directory, arguments, chosen):
    figures = {}
    servers = [Server(app, kind, directory) for kind in [*SERVERS, AS_IT_COMES]]

    def note(scenario, server, figure):
        figures.setdefault(scenario, {}).setdefault(server.kind, []).append(figure)

    try:
        for scenario in chosen:
            if scenario == IDLE:
                for server in servers:
                    note(IDLE, server, idle(server, arguments.idle))
                continue
            path, options = SCENARIOS[scenario]
            for server in servers:
                warm(server, path, options)
            for _ in range(arguments.rounds):
                for server in servers:
                    note(scenario, server, load(server, path, options, arguments.seconds)[0])
            if scenario == "plaintext":
                for server in servers:
                    note(ALLOCATED, server, allocated(server))
    finally:
        for server in servers:
            server.stop()
    return figures


def table(figures):
    lines = ["| | Kestrel, pool spins | Kestrel | thread pool | | aim | inline | | aim |",
             "|---" * 9 + "|"]
    for scenario, by in figures.items():
        k, p, i = (statistics.median(by[kind]) for kind in SERVERS)
        spins = statistics.median(by[AS_IT_COMES])
        unit, digits = ("B", 0) if scenario in (IDLE, ALLOCATED) else ("µs", 1)
        cells = [TITLES[scenario], f"{spins:,.{digits}f} {unit}", f"{k:,.{digits}f} {unit}"]
        for figure, aim in zip((p, i), AIMS.get(scenario, (None, None))):
            ratio = figure / k
            cells += [f"{figure:,.{digits}f} {unit}", f"{ratio:.2f}x",
                      "" if aim is None else f"≤ {aim:.2f}x {'met' if ratio <= aim else '**missed**'}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle", type=int, default=4000)
    parser.add_argument("--only", default="", help="scenarios, with commas")
    parser.add_argument("--form", default="", help="jit or native; both where native code could be published")
    parser.add_argument("--out", default="", help="a path without extension: .json and .md are written")
    arguments = parser.parse_args()
    apps = {"jit": os.path.join(ROOT, "artifacts/bin/BenchApp/release/BenchApp"),
            "native": os.path.join(ROOT, "artifacts/bench-aspnet-native/BenchApp")}
    apps = {form: app for form, app in apps.items()
            if os.path.exists(app) and (not arguments.form or form == arguments.form)}
    chosen = [s for s in [*SCENARIOS, IDLE] if not arguments.only or s in arguments.only.split(",")]
    figures = {}
    text = ""
    began = time.time()
    with tempfile.TemporaryDirectory() as directory:
        for name, size in (("1k.bin", 1024), ("100k.bin", 100 * 1024)):
            with open(os.path.join(directory, name), "wb") as f:
                f.write(b"x" * size)
        for form, app in apps.items():
            figures[form] = measure(app, directory, arguments, chosen)
            title = "On the JIT" if form == "jit" else "As native code"
            text += f"{title}:\n\n{table(figures[form])}\n"
    with open("/proc/cpuinfo") as f:
        cpu = re.search(r"model name\s*: (.*)", f.read()).group(1)
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    text += (f"Commit {commit.stdout.strip() or 'unknown'}, {cpu}, Linux {platform.release()}, "
             f"{time.strftime('%Y-%m-%d')}; load average at the end {os.getloadavg()[0]:.1f}; "
             f"{time.time() - began:.0f} s.\n")
    print(text)
    if arguments.out:
        with open(arguments.out + ".json", "w") as f:
            json.dump({"commit": commit.stdout.strip(), "cpu": cpu, "kernel": platform.release(),
                       "date": time.strftime("%Y-%m-%d"),
                       "unit": "CPU microseconds per request; bytes for idle-memory and allocated",
                       "figures": figures}, f, indent=1)
            f.write("\n")
        with open(arguments.out + ".md", "w") as f:
            f.write("# Weir beside Kestrel\n\nCPU time per request; how it is measured: "
                    "[aspnetcore.md](../../docs/aspnetcore.md).\n\n" + text)


if __name__ == "__main__":
    sys.exit(main())
