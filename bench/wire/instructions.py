"""Instructions per request under callgrind: the same configurations as bench.py's, one process each, a client that
keeps 64 connections busy in turn, and a count that begins after the warm-up."""

import argparse
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import bench
import scenarios

CONNECTIONS = 64
USUAL = ["return", "static-1k", "static-1k-nocache", "static-100k", "proxy", "pipelined16", "short-lived"]
HANDLED = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
           signal.SIGWINCH, signal.SIGCHLD, signal.SIGALRM, signal.SIGIO]


def request(scenario, realistic, index):
    lines = "".join(line + "\r\n" for line in scenario.lines(realistic))
    return f"GET {scenario.url(index)} HTTP/1.1\r\nHost: {scenario.host}\r\n{lines}\r\n".encode()


def answer_end(data):
    """Where the first answer in these bytes ends, or None while it is not whole."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[:end].lower()
    if b"transfer-encoding: chunked" in head:
        last = data.find(b"\r\n0\r\n\r\n", end)
        return last + 7 if last >= 0 else None
    end += 4 + int(re.search(rb"content-length: (\d+)", head).group(1))
    return end if len(data) >= end else None


class Client:
    """Sends bursts over many connections: all are written, then all are read, as a busy loop sees them."""

    def __init__(self, port, scenario, realistic, seed):
        self.port, self.scenario, self.realistic = port, scenario, realistic
        self.random = random.Random(seed)
        self.count = scenario.variety(realistic)
        self.open = [] if scenario.close else [self.connect() for _ in range(CONNECTIONS)]

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), 60)

    def burst(self):
        return b"".join(request(self.scenario, self.realistic, self.random.randrange(self.count))
                        for _ in range(self.scenario.pipeline))

    def turn(self):
        """One burst on each connection. Returns the number of requests."""
        connections = self.open or [self.connect() for _ in range(CONNECTIONS)]
        for connection in connections:
            connection.sendall(self.burst())
        for connection in connections:
            self.read(connection)
        return len(connections) * self.scenario.pipeline

    def read(self, connection):
        data = b""
        left = self.scenario.pipeline
        while left > 0 or self.scenario.close:
            chunk = connection.recv(262144)
            if not chunk:
                if self.scenario.close and left == 0:
                    connection.close()
                    return
                raise bench.Refused("the server closed a connection")
            data += chunk
            while left > 0 and (end := answer_end(data)) is not None:
                if not data.startswith(b"HTTP/1.1 200"):
                    raise bench.Refused(f"an answer was {data[:40]}")
                data = data[end:]
                left -= 1

    def run(self, requests):
        done = 0
        while done < requests:
            done += self.turn()
        return done


def command(process, word):
    """Told to the process itself: callgrind_control looks for valgrind's command line, which a title has replaced."""
    subprocess.run(["vgdb", f"--pid={process.pid}", word], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def settle(process):
    """What the start left is collected a moment after it: not a request's work. Waits until nothing is done."""
    quiet, before = 0, None
    while quiet < 4 and process.poll() is None:
        time.sleep(0.5)
        now = bench.cpu([process.pid])
        quiet = quiet + 1 if now == before else 0
        before = now


def count(name, binary, scenario, realistic, options, base, files, backend):
    def configure(port, directory, user):
        return scenarios.configuration(
            scenario, realistic, port, directory, files, backend, options.engine, user, binary)

    variant = "realistic" if realistic else "bare"
    return count_of(name, binary, configure, scenario, realistic, options, base, f"{scenario.name}-{variant}")


def count_of(name, binary, configure, scenario, realistic, options, base, label, beside=None):
    """Instructions per request of one server. `configure` writes its configuration for a port, a directory and a
    `user` line; `beside`, given the port, starts what is to be there meanwhile and returns it."""
    directory = tempfile.mkdtemp(dir=base)
    port = bench.free_port()
    conf = configure(port, directory, "user root;" if os.geteuid() == 0 else "")
    # The counter follows one process; what a worker does is the same without a master.
    conf = conf.replace("worker_processes 1;", "worker_processes 1; master_process off;", 1)
    path = os.path.join(directory, "nginx.conf")
    with open(path, "w") as f:
        f.write(conf)
    # Debug information, in the binary or beside it, confuses callgrind: it runs a copy with the symbols alone.
    copy = os.path.join(base, f"{name}-under-test")
    if not os.path.exists(copy):
        shutil.copy(binary, copy)
        subprocess.run(["objcopy", "--strip-debug", copy], check=False)
    out = os.path.join(directory, "callgrind.out")
    log = open(os.path.join(directory, "stderr.log"), "w+")
    company = None
    process = subprocess.Popen(
        ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--collect-jumps=no",
         copy, "-p", directory + "/", "-c", path],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        env={**os.environ, "DOTNET_GCHeapHardLimit": "0x10000000"},
        # With them blocked Weir need not execute itself anew, which callgrind would not survive.
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED))
    try:
        deadline = time.monotonic() + 300
        while True:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                raise bench.Refused(f"{name} did not start: {log.read()[-1000:]}")
            time.sleep(0.1)
        settle(process)
        company = beside(port) if beside else None
        client = Client(port, scenario, realistic, 1)
        client.run(options.warmup)
        command(process, "zero")
        requests = client.run(options.requests)
        command(process, "dump")
        deadline = time.monotonic() + 30
        total = None
        while total is None and time.monotonic() < deadline:
            written = next((p for p in (out + ".1", out) if os.path.exists(p)), None)
            if written:
                with open(written) as f:
                    found = re.search(r"^totals: (\d+)", f.read(), re.M)
                total = int(found.group(1)) if found else None
            time.sleep(0.1)
        if total is None:
            raise bench.Refused(f"{name}: callgrind wrote no count")
        if options.profile:
            os.makedirs(options.profile, exist_ok=True)
            shutil.copy(written, os.path.join(options.profile, f"{name}-{label}.out"))
        return total / requests
    finally:
        if company:
            company.kill()
            company.wait()
        process.send_signal(signal.SIGKILL)
        process.wait()


def main():
    parser = argparse.ArgumentParser(prog="bench/instructions")
    parser.add_argument("scenario", nargs="*")
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--realistic", action="store_true")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--warmup", type=int, default=1500)
    parser.add_argument("--only", choices=("weir", "nginx"))
    parser.add_argument("--profile")
    parser.add_argument("--engine", default="epoll")
    parser.add_argument("--weir-binary", default=os.path.join(bench.ROOT, "artifacts/bin/weir"))
    parser.add_argument("--nginx-binary", default=shutil.which("nginx") or "/usr/sbin/nginx")
    options = parser.parse_args()
    chosen = [s for s in scenarios.ALL if s.name in (options.scenario or USUAL)]
    variants = [options.realistic] if options.bare != options.realistic else [False, True]
    base = tempfile.mkdtemp(prefix="weir-bench-")
    os.chmod(base, 0o755)
    backend = None
    failed = 0
    print("| instructions per request | Weir | nginx | ratio |\n|---|---|---|---|", flush=True)
    try:
        files = os.path.join(base, "files")
        bench.prepare_files(files)
        backend_port = 0
        if any(s.needs_backend for s in chosen):
            options.cores = (None, None)
            backend = bench.start_origin(options, base, files)
            backend_port = backend.port
        for scenario in chosen:
            for realistic in variants:
                counts = {}
                try:
                    for name, binary in (("weir", options.weir_binary), ("nginx", options.nginx_binary)):
                        if options.only in (None, name):
                            counts[name] = count(
                                name, binary, scenario, realistic, options, base, files, backend_port)
                except bench.Refused as why:
                    failed += 1
                    print(f"refused: {scenario.name}: {why}", file=sys.stderr)
                    continue
                weir, nginx = counts.get("weir"), counts.get("nginx")
                cells = [f"{scenario.name}{', realistic' if realistic else ''}",
                         str(round(weir)) if weir else "", str(round(nginx)) if nginx else "",
                         f"{weir / nginx:.2f}" if weir and nginx else ""]
                print(f"| {' | '.join(cells)} |", flush=True)
    finally:
        if backend:
            backend.stop()
        shutil.rmtree(base, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
