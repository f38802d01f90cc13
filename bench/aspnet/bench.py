"""Weir beside Kestrel under one ASP.NET Core application: the servers take turns on one core, the client has the other,
and what is compared is CPU time per request. A round with errors is refused. Figures are medians of all rounds."""

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
CLOSE = ["-H", "Connection: close"]
SCENARIOS = {
    "plaintext": ("/plaintext", []),
    "connection-per-request": ("/plaintext", CLOSE),
    "file-1k": ("/1k.bin", []),
    "file-100k": ("/100k.bin", []),
}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, app, kind, directory):
        self.kind = kind
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            ["taskset", "-c", "0", app, kind, self.url, directory],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "DOTNET_gcServer": "0"})
        for _ in range(600):
            try:
                urllib.request.urlopen(self.url + "/plaintext", timeout=5).read()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"{kind} does not answer")

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self):
        urllib.request.urlopen(self.url + "/collect", timeout=60).read()
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
    return used * 1e6 / requests, requests / seconds


def warm(server, path, options):
    """Until the JIT has nothing left to do: the cost of a request stops falling."""
    last = 1e9
    for _ in range(12):
        cost, _ = load(server, path, options, 3)
        if cost > last * 0.97:
            return
        last = cost


def idle(server, connections):
    held = []

    def open_all():
        for _ in range(connections):
            s = socket.create_connection(("127.0.0.1", server.port))
            s.sendall(b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n")
            got = b""
            while b"Hello, World!" not in got:
                got += s.recv(4096)
            held.append(s)

    server.memory()
    before = server.memory()
    open_all()
    time.sleep(1)
    bytes_each = (server.memory() - before) / connections
    for s in held:
        s.close()
    return bytes_each


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle", type=int, default=4000)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", default="")
    parser.add_argument("--app", default=os.path.join(ROOT, "artifacts/bin/BenchApp/release/BenchApp"))
    arguments = parser.parse_args()
    chosen = [s for s in [*SCENARIOS, "idle-memory"] if not arguments.only or s in arguments.only.split(",")]
    figures = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, size in (("1k.bin", 1024), ("100k.bin", 100 * 1024)):
            with open(os.path.join(directory, name), "wb") as f:
                f.write(b"x" * size)
        servers = [Server(arguments.app, kind, directory) for kind in SERVERS]
        try:
            for scenario in chosen:
                if scenario == "idle-memory":
                    for server in servers:
                        figures.setdefault(scenario, {})[server.kind] = [idle(server, arguments.idle)]
                    continue
                path, options = SCENARIOS[scenario]
                for server in servers:
                    warm(server, path, options)
                for _ in range(arguments.rounds):
                    for server in servers:
                        cost, _ = load(server, path, options, arguments.seconds)
                        figures.setdefault(scenario, {}).setdefault(server.kind, []).append(cost)
        finally:
            for server in servers:
                server.stop()
    print(f"{'':24}{'Kestrel':>12}{'Weir pool':>12}{'':>8}{'Weir inline':>12}")
    for scenario, by in figures.items():
        k, p, i = (statistics.median(by[kind]) for kind in SERVERS)
        unit = "B" if scenario == "idle-memory" else "us"
        print(f"{scenario:24}{k:10.1f} {unit}{p:10.1f} {unit}{p / k:7.2f}x{i:10.1f} {unit}{i / k:7.2f}x")
    if arguments.out:
        with open(arguments.out, "w") as f:
            json.dump({"cpu": platform.processor() or platform.machine(), "kernel": platform.release(),
                       "date": time.strftime("%Y-%m-%d"), "unit": "CPU microseconds per request; bytes for idle-memory",
                       "figures": figures}, f, indent=1)
            f.write("\n")


if __name__ == "__main__":
    sys.exit(main())
