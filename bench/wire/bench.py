"""Runs the scenarios: starts Weir and nginx with the same configuration, pins the servers to one core and the client to
another, alternates them, and reports medians. A run with errors, or with answers that differ, is refused."""

import argparse
import json
import os
import platform
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import report
import scenarios

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TICKS = os.sysconf("SC_CLK_TCK")
CONNECTIONS = 64


class Refused(Exception):
    """A run whose figures would mean nothing."""


def free_port(taken=set()):
    first, last = (int(p) for p in os.environ.get("WEIR_TEST_PORTS", "20000-29999").split("-"))
    for port in range(first + os.getpid() % 50, last + 1):
        if port in taken:
            continue
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        taken.add(port)
        return port
    raise SystemExit(f"bench: no free port between {first} and {last}")


def children(pid):
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as f:
                found += [int(p) for p in f.read().split()]
    except OSError:
        pass
    return found


def tree(pid):
    pids = [pid]
    for child in children(pid):
        pids += tree(child)
    return pids


def cpu(pids):
    """User and system seconds of these processes so far."""
    user = system = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        user += int(fields[11])
        system += int(fields[12])
    return user / TICKS, system / TICKS


def memory(pids):
    """Bytes of PSS over the tree, and the RSS of its largest process."""
    pss, rss = 0, 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as f:
            text = f.read()
        pss += int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1)) * 1024
        rss = max(rss, int(re.search(r"^Rss:\s+(\d+)", text, re.M).group(1)) * 1024)
    return pss, rss


class Server:
    def __init__(self, name, binary, core, directory, conf, port):
        self.name, self.port, self.directory = name, port, directory
        path = os.path.join(directory, "nginx.conf")
        with open(path, "w") as f:
            f.write(conf)
        self.log = open(os.path.join(directory, "stderr.log"), "w+")
        pinned = [] if core is None else ["taskset", "-c", str(core)]
        self.process = subprocess.Popen(
            [*pinned, binary, "-p", directory + "/", "-c", path],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 15
        while True:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise Refused(f"{name} did not start: {self.story()}")
            time.sleep(0.01)

    def story(self):
        self.log.seek(0)
        text = self.log.read()
        try:
            with open(os.path.join(self.directory, "error.log")) as f:
                text += f.read()
        except OSError:
            pass
        return text[-2000:]

    def pids(self):
        return tree(self.process.pid)

    def stop(self):
        pids = self.pids() if self.process.poll() is None else []
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                for pid in pids[1:]:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except OSError:
                        pass


def wait_workers(server, count):
    """All workers are there and have told the master so: they have a name of their own by then."""
    deadline = time.monotonic() + 30
    while len(children(server.process.pid)) < count:
        if time.monotonic() > deadline:
            raise Refused(f"{server.name} has not got {count} workers: {server.story()}")
        time.sleep(0.02)
    time.sleep(0.3)


def build_tool(name, directory):
    """A small C program of bench/floor, compiled for this run."""
    path = os.path.join(directory, name)
    if not os.path.exists(path):
        built = subprocess.run(["gcc", "-O2", "-o", path, os.path.join(ROOT, "bench/floor", name + ".c")],
                               capture_output=True, text=True)
        if built.returncode != 0:
            raise Refused(f"gcc: {built.stderr}")
    return path


def raise_file_limit():
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)


def fetch(port, path, headers):
    """One answer: status and body, read to the end of the connection."""
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n" + "".join(h + "\r\n" for h in headers)
        s.sendall((request + "Connection: close\r\n\r\n").encode())
        data = b""
        while chunk := s.recv(65536):
            data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    kept = sorted(line.lower() for line in head.split(b"\r\n")[1:]
                  if line.lower().startswith((b"content-", b"transfer-", b"etag", b"last-modified")))
    return head.split(b"\r\n")[0], kept, body


def verify(scenario, realistic, servers):
    for number in (0, 7) if realistic else (0,):
        path = scenario.path % number
        answers = [fetch(s.port, path, scenarios.BROWSER if realistic else []) for s in servers]
        if b" 200 " not in answers[0][0] + b" ":
            raise Refused(f"{servers[0].name} answers {path} with {answers[0][0].decode()}")
        if answers[0] != answers[1]:
            raise Refused(f"the answers to {path} differ: {answers[0][:2]} and {answers[1][:2]}")


def wrk(server, script, seconds, core):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(
        ["taskset", "-c", str(core), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", script,
         f"http://127.0.0.1:{server.port}/"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.communicate(timeout=seconds + 30)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = re.search(r"^RESULT (.*)$", out, re.M)
    if not found:
        raise Refused(f"wrk said: {out}{err}")
    result = {k: int(v) for k, v in (pair.split("=") for pair in found.group(1).split())}
    client = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    result["client_busy"] = client / (result["duration"] / 1e6)
    return result


def measure(server, script, seconds, cores):
    pids = server.pids()
    before = cpu(pids)
    result = wrk(server, script, seconds, cores[1])
    if server.pids() != pids:
        raise Refused(f"{server.name} changed its processes during the run: {server.story()}")
    after = cpu(pids)
    errors = {k: result[k] for k in ("connect", "read", "write", "status", "timeout") if result[k]}
    if errors or result["requests"] == 0:
        raise Refused(f"{server.name}: {result['requests']} requests, errors {errors}: {server.story()}")
    count = result["requests"]
    return {
        "requests": count,
        "user_us": (after[0] - before[0]) * 1e6 / count,
        "system_us": (after[1] - before[1]) * 1e6 / count,
        "cpu_us": (after[0] + after[1] - before[0] - before[1]) * 1e6 / count,
        "rps": count / (result["duration"] / 1e6),
        "p50_us": result["p50"], "p99_us": result["p99"], "p999_us": result["p999"],
        "client_busy": result["client_busy"],
    }


def syscalls(server, script, seconds, core):
    """System calls per request, counted by strace over a run of its own."""
    if not shutil.which("strace"):
        return None
    out = os.path.join(server.directory, "strace.txt")
    command = ["strace", "-c", "-f", "-o", out]
    for pid in server.pids():
        command += ["-p", str(pid)]
    tracer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    # It says on standard error when it has attached.
    if "attached" not in (tracer.stderr.readline() or ""):
        tracer.wait()
        return None
    result = wrk(server, script, seconds, core)
    tracer.send_signal(signal.SIGINT)
    tracer.communicate()
    with open(out) as f:
        text = f.read()
    total = re.search(r"^\s*100\.00\s+\S+\s+(?:\d+\s+)?(\d+)\s+(?:\d+\s+)?total$", text, re.M)
    by_name = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 5 and re.match(r"^[\d.]+$", fields[0]) and fields[-1] != "total":
            by_name[fields[-1]] = round(int(fields[3]) / result["requests"], 3)
    top = dict(sorted(by_name.items(), key=lambda kv: -kv[1])[:8])
    return {"total": int(total.group(1)) / result["requests"], "by_name": top} if total else None


def prepare_files(directory):
    os.makedirs(os.path.join(directory, "f"))
    os.makedirs(os.path.join(directory, "b"))
    for folder, name, count, size in (("f", "html", 1000, 1024), ("b", "bin", 100, 102400)):
        for i in range(count):
            path = os.path.join(directory, folder, f"{i}.{name}")
            with open(path, "wb") as f:
                f.write((f"{i} ".encode() * size)[:size])
            os.utime(path, (1709210096, 1709210096))
    os.chmod(directory, 0o755)


def run(scenario, realistic, options, base, files):
    user = "user root;" if os.geteuid() == 0 else ""
    cores = options.cores
    servers, backend = [], None
    try:
        backend_port = 0
        if scenario.needs_backend:
            directory = tempfile.mkdtemp(dir=base)
            backend_port = free_port()
            backend = Server("origin", options.nginx_binary, cores[1], directory,
                             scenarios.backend_configuration(backend_port, directory, user), backend_port)
        for name, binary in (("weir", options.weir_binary), ("nginx", options.nginx_binary)):
            directory = tempfile.mkdtemp(dir=base)
            port = free_port()
            conf = scenarios.configuration(
                scenario, realistic, port, directory, files, backend_port, options.engine, user, binary)
            servers.append(Server(name, binary, cores[0], directory, conf, port))
        verify(scenario, realistic, servers)
        script = os.path.join(base, "client.lua")
        with open(script, "w") as f:
            f.write(scenarios.lua(scenario, realistic))
        rounds = {s.name: [] for s in servers}
        for server in servers if options.warmup else []:
            measure(server, script, options.warmup, cores)
        for number in range(options.rounds):
            for server in servers if number % 2 == 0 else reversed(servers):
                rounds[server.name].append(measure(server, script, options.seconds, cores))
        result = {"scenario": scenario.name, "variant": "realistic" if realistic else "bare", "target": scenario.target,
                  "servers": {}}
        for server in servers:
            pss, rss = memory(server.pids())
            runs = rounds[server.name]
            result["servers"][server.name] = {
                **{key: statistics.median(r[key] for r in runs) for key in runs[0]},
                "pss_bytes": pss, "rss_bytes": rss, "rounds": runs,
                "syscalls": None if options.smoke else syscalls(server, script, 1, cores[1]),
            }
        ours, theirs = result["servers"]["weir"], result["servers"]["nginx"]
        if theirs["cpu_us"] > 0:
            result["ratio"] = ours["cpu_us"] / theirs["cpu_us"]
        return result
    finally:
        for server in servers + ([backend] if backend else []):
            server.stop()


def facts(options):
    def say(*command):
        try:
            return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        except OSError:
            return subprocess.CompletedProcess(command, 1, "", "")

    with open("/proc/cpuinfo") as f:
        model = re.search(r"model name\s*: (.*)", f.read())
    governor = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()) + " UTC",
        "commit": say("git", "rev-parse", "--short", "HEAD").stdout.strip() or "unknown",
        "cpu": model.group(1) if model else platform.machine(),
        "cores": os.cpu_count(),
        "governor": open(governor).read().strip() if os.path.exists(governor) else "not told",
        "kernel": platform.release(),
        "weir": say(options.weir_binary, "-v").stderr.strip(),
        "nginx": say(options.nginx_binary, "-v").stderr.strip(),
        "engine": options.engine,
        "connections": getattr(options, "connections", CONNECTIONS),
        "rounds": options.rounds,
        "seconds": options.seconds,
    }


def arguments():
    parser = argparse.ArgumentParser(prog="bench/run")
    parser.add_argument("scenario", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 1 s")
    parser.add_argument("--smoke", action="store_true", help="1 round of 1 s, results not kept")
    parser.add_argument("--bare", action="store_true", help="only the bare variants")
    parser.add_argument("--realistic", action="store_true", help="only the realistic variants")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--engine", default="epoll")
    parser.add_argument("--weir-binary", default=os.path.join(ROOT, "artifacts/bin/weir"))
    parser.add_argument("--nginx-binary", default=shutil.which("nginx") or "/usr/sbin/nginx")
    parser.add_argument("--output", default=os.path.join(ROOT, "bench/results"))
    options = parser.parse_args()
    options.warmup = 1
    if options.quick:
        options.rounds, options.seconds = 3, 1
    if options.smoke:
        options.rounds, options.seconds, options.warmup = 1, 1, 0
    last = (os.cpu_count() or 1) - 1
    options.cores = (0, min(1, last))
    return options


def main():
    options = arguments()
    if options.list:
        for scenario in scenarios.ALL:
            print(scenario.name)
        return 0
    unknown = set(options.scenario) - {s.name for s in scenarios.ALL}
    if unknown:
        print(f"bench: no such scenario: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    chosen = [s for s in scenarios.ALL if not options.scenario or s.name in options.scenario]
    variants = [False, True]
    if options.bare != options.realistic:
        variants = [options.realistic]
    results, refused = [], 0
    base = tempfile.mkdtemp(prefix="weir-bench-")
    os.chmod(base, 0o755)
    try:
        files = os.path.join(base, "files")
        prepare_files(files)
        for scenario in chosen:
            for realistic in variants:
                label = f"{scenario.name} {'realistic' if realistic else 'bare'}"
                try:
                    results.append(run(scenario, realistic, options, base, files))
                    print(report.line(results[-1]), flush=True)
                except Refused as why:
                    refused += 1
                    print(f"refused: {label}: {why}", flush=True)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if options.smoke:
        print(f"{len(results)} passed, {refused} failed, 0 skipped")
        return 1 if refused or not results else 0
    if refused:
        print(f"bench: {refused} scenario(s) refused; nothing is written", file=sys.stderr)
        return 1
    print("results: " + report.write(options.output, facts(options), results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
