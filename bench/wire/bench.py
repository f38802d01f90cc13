"""Runs the scenarios: starts Weir on each engine, nginx and whichever peers the machine has, pins the servers to one
core and the client to another, alternates them, and reports medians. A run with errors, or with answers that differ
from nginx's, is not reported."""

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

import peers
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


def is_loader(pid):
    """A cache's loader ends while requests are measured: it is not one of the processes that serve."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return b"loader" in f.read()
    except OSError:
        return True


def tree(pid):
    pids = [pid]
    for child in children(pid):
        if not is_loader(child):
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


class Place:
    """Where a server is to live: what its configuration is made from."""

    def __init__(self, binary, port, directory, files, backend, kind, conf=None):
        self.binary, self.port, self.directory, self.files = binary, port, directory, files
        self.backend, self.kind, self.conf = backend, kind, conf


class Server:
    def __init__(self, name, binary, core, directory, conf, port, command=None):
        self.name, self.port, self.directory = name, port, directory
        if command is None:
            command = peers.nginx_like(Place(binary, port, directory, None, 0, None, conf))
        self.log = open(os.path.join(directory, "stderr.log"), "w+")
        pinned = [] if core is None else ["taskset", "-c", str(core)]
        self.process = subprocess.Popen(
            [*pinned, *command], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd=directory)
        deadline = time.monotonic() + 60
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


def dechunk(body):
    parts = []
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        parts.append(body[:length])
        body = body[length + 2:]
    return b"".join(parts)


def fetch(port, path, headers):
    """One answer: status and body, read to the end of the connection."""
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n" + "".join(h + "\r\n" for h in headers)
        s.sendall((request + "Connection: close\r\n\r\n").encode())
        data = b""
        while chunk := s.recv(65536):
            data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        body = dechunk(body)
    kept = sorted(line.lower() for line in head.split(b"\r\n")[1:]
                  if line.lower().startswith((b"content-", b"transfer-", b"etag", b"last-modified")))
    return head.split(b"\r\n")[0], kept, body


def verify(scenario, realistic, servers, reference):
    """The servers that answer as nginx does; Weir must in every header that describes the body, a peer in the body."""
    good, why = [], {}
    for server in servers:
        try:
            for number in (0, min(7, scenario.urls - 1)) if realistic else (0,):
                path = scenario.url(number)
                headers = [h for h in scenario.lines(realistic) if not h.startswith("Connection:")]
                ours, theirs = fetch(server.port, path, headers), fetch(reference.port, path, headers)
                if b" 200 " not in theirs[0] + b" ":
                    raise Refused(f"nginx answers {path} with {theirs[0].decode()}")
                same = ours == theirs if server.peer.takes_conf else ours[2] == theirs[2] and b" 200" in ours[0]
                if not same:
                    raise Refused(f"its answer to {path} differs from nginx's: {ours[:2]} and {theirs[:2]}")
            good.append(server)
        except (Refused, OSError) as e:
            why[server.name] = str(e)
    return good, why


def wrk(server, script, seconds, core, connections=CONNECTIONS):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(
        ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", "--timeout", "10s",
         f"-d{max(1, round(seconds))}s", "-s", script,
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


def measure(server, script, seconds, cores, connections=CONNECTIONS):
    pids = server.pids()
    before = cpu(pids)
    result = wrk(server, script, seconds, cores[1], connections)
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


def open_loop(tool, server, path, rate, seconds, core, headers, connections=CONNECTIONS):
    """Latency at a rate that the client keeps whatever the server does."""
    out = subprocess.run(["taskset", "-c", str(core), tool, "127.0.0.1", str(server.port), path, f"{rate:.0f}",
                          str(connections), str(seconds), *headers], capture_output=True, text=True,
                         timeout=seconds + 30)
    if out.returncode != 0:
        raise Refused(f"the open-loop client said: {out.stderr}")
    result = json.loads(out.stdout)
    if result["errors"]:
        raise Refused(f"{server.name} at {rate:.0f} requests a second: {out.stdout}")
    return result


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
    if result["requests"] == 0:
        # Large answers that take longer under a tracer than the run.
        return None
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
    for folder, name, count, size in (("f", "html", 1000, 1024), ("b", "bin", 100, 102400),
                                      ("l", "bin", 4, 10 << 20), ("s", "html", 8, 1 << 20)):
        os.makedirs(os.path.join(directory, folder))
        for i in range(count):
            path = os.path.join(directory, folder, f"{i}.{name}")
            with open(path, "wb") as f:
                f.write((f"{i} ".encode() * size)[:size])
            os.utime(path, (1709210096, 1709210096))
    os.chmod(directory, 0o755)


def make_certificate(directory):
    """A key and a certificate of its own for localhost: key and crt in the directory."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", f"{directory}/key", "-out", f"{directory}/crt", "-days", "2", "-subj", "/CN=localhost"],
                   check=True, capture_output=True)


def start_origin(options, base, files):
    directory, port = tempfile.mkdtemp(dir=base), free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    return Server("origin", options.nginx_binary, options.cores[1], directory,
                  scenarios.backend_configuration(port, directory, files, user), port)


def start_all(scenario, realistic, options, base, files, backend):
    """Everybody who can serve the scenario: the servers, and who could not start with the reason."""
    servers, why = [], {}
    user = "user root;" if os.geteuid() == 0 else ""
    for peer, binary in options.contenders:
        if not peer.serves(scenario, realistic):
            continue
        directory, port = tempfile.mkdtemp(dir=base), free_port()
        os.chmod(directory, 0o755)
        conf = scenarios.configuration(scenario, realistic, port, directory, files, backend, peer.engine, user,
                                       binary) if peer.takes_conf else None
        place = Place(binary, port, directory, files, backend, scenario.kind, conf)
        try:
            server = Server(peer.name, binary, options.cores[0], directory, conf, port, peer.command(place))
            server.peer = peer
            servers.append(server)
        except (Refused, OSError) as e:
            why[peer.name] = str(e)
    return servers, why


class Beside:
    """Slow clients of a server for as long as it is measured."""

    def __init__(self, scenario, server, core):
        self.process = None
        if scenario.beside:
            count, path = scenario.beside
            self.process = subprocess.Popen(
                ["taskset", "-c", str(core), sys.executable,
                 os.path.join(os.path.dirname(os.path.abspath(__file__)), "slow.py"), str(server.port), str(count),
                 path], stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        if self.process and self.process.stdout.readline().strip() != "ready":
            raise Refused("the slow clients did not start")
        if self.process:
            # Until the kernel holds for each of them what it will: that is megabytes, and soon over.
            time.sleep(1)

    def __exit__(self, *_):
        if self.process:
            self.process.kill()
            self.process.wait()


def await_quiet(smoke):
    """Waits until what closed connections is done. Whoever makes many leaves them in TIME_WAIT, which they all leave a
    minute later, in softirqs that would be in another server's latency: 1.5 ms of p99 where it was 0.4."""
    deadline = time.monotonic() + 70
    while not smoke and time.monotonic() < deadline:
        with open("/proc/net/sockstat") as f:
            waiting = re.search(r"\btw (\d+)", f.read())
        if not waiting or int(waiting.group(1)) < 1000:
            return
        time.sleep(0.5)


def run(scenario, realistic, options, base, files):
    cores = options.cores
    await_quiet(options.smoke)
    servers, origin = [], None
    try:
        if scenario.needs_backend:
            origin = start_origin(options, base, files)
        servers, why = start_all(scenario, realistic, options, base, files, origin.port if origin else 0)
        reference = next((s for s in servers if s.name == "nginx"), None)
        if reference is None:
            raise Refused(why.get("nginx", "nginx is missing"))
        good, wrong = verify(scenario, realistic, servers, reference)
        why.update(wrong)
        script = os.path.join(base, "client.lua")
        with open(script, "w") as f:
            f.write(scenarios.lua(scenario, realistic))
        rounds = {s.name: [] for s in good}
        for number in range(-1 if options.warmup else 0, options.rounds):
            for server in list(good if number % 2 == 0 else reversed(good)):
                try:
                    with Beside(scenario, server, cores[1]):
                        # Thousands of connections are made first, which a second is too short for.
                        least = 5 if scenario.connections > 1000 else 0
                        seconds = max(least, options.warmup if number < 0 else options.seconds)
                        figures = measure(server, script, seconds, cores, scenario.connections)
                        if number >= 0:
                            rounds[server.name].append(figures)
                except (Refused, OSError) as e:
                    why[server.name] = str(e)
                    good.remove(server)
        kept, wrong = verify(scenario, realistic, good, reference)
        why.update(wrong)
        if reference not in kept:
            raise Refused(why.get("nginx", "nginx had errors"))
        result = {"scenario": scenario.name, "variant": "realistic" if realistic else "bare", "target": scenario.target,
                  "connections": scenario.connections, "servers": {}, "refused": why}
        rate = max(50, statistics.median(r["rps"] for r in rounds["nginx"]) / 2)
        waits = latencies(scenario, realistic, kept, rate, options, why)
        for server in kept:
            if server.name in why:
                continue
            pss, rss = memory(server.pids())
            runs = rounds[server.name]
            own = {**{key: statistics.median(r[key] for r in runs) for key in runs[0]},
                   "pss_bytes": pss, "rss_bytes": rss, "rounds": runs, "open_loop": waits.get(server.name),
                   "syscalls": None}
            try:
                if not options.smoke:
                    own["syscalls"] = syscalls(server, script, 1, cores[1])
            except (Refused, OSError, subprocess.SubprocessError) as e:
                why[server.name] = str(e)
                continue
            result["servers"][server.name] = own
        if "nginx" not in result["servers"]:
            raise Refused(why["nginx"])
        theirs = result["servers"]["nginx"]["cpu_us"]
        for own in result["servers"].values():
            own["ratio"] = own["cpu_us"] / theirs if theirs > 0 else 0
        return result
    finally:
        for server in servers + ([origin] if origin else []):
            server.stop()


def latencies(scenario, realistic, servers, rate, options, why):
    """Medians over alternating rounds at half of nginx's rate, by server; a peer of others has one round. A second at
    a time: what a machine steals for some milliseconds spoils one round in place of all."""
    if not scenario.open_loop or options.smoke or not options.latency_rounds:
        return {}
    tool, headers, runs = os.path.join(options.tools, "openloop"), scenario.lines(realistic), {}
    await_quiet(options.smoke)
    for number in range(options.latency_rounds):
        for server in servers if number % 2 == 0 else reversed(servers):
            if server.name in why or number > 0 and not server.peer.takes_conf:
                continue
            try:
                with Beside(scenario, server, options.cores[1]):
                    runs.setdefault(server.name, []).append(open_loop(
                        tool, server, scenario.url(0), rate, 1, options.cores[1], headers, scenario.connections))
            except (Refused, OSError, subprocess.SubprocessError) as e:
                why[server.name] = str(e)
    return {name: {"rate": rate, "rounds": own, **{key: statistics.median(r[key] for r in own)
                                                   for key in ("p50_us", "p99_us", "p999_us", "slice_p99_us")}}
            for name, own in runs.items() if name not in why}


def run_growth(growth, options, base, files):
    """CPU per request at every size, Weir's engines and nginx. All sizes are there at once and take turns: a machine
    that is slower for a while is so for each of them."""
    user = "user root;" if os.geteuid() == 0 else ""
    contenders = [(p, b) for p, b in options.contenders if p.takes_conf]
    sizes = growth.sizes[:2] if options.smoke else growth.sizes[::2] if options.quick else growth.sizes
    await_quiet(options.smoke)
    origin = start_origin(options, base, files) if growth.path.startswith("/p/") else None
    servers, holders = [], []
    try:
        for size in sizes:
            scenario = scenarios.Scenario(growth.name, "", growth.path, "", urls=1, host=growth.host(size))
            script = os.path.join(base, f"client-{size}.lua")
            with open(script, "w") as f:
                f.write(scenarios.lua(scenario, False))
            for peer, binary in contenders:
                directory, port = tempfile.mkdtemp(dir=base), free_port()
                server = Server(peer.name, binary, options.cores[0], directory, scenarios.growth_configuration(
                    growth, size, port, directory, files, origin.port if origin else 0, peer.engine, user, binary),
                    port)
                servers.append((size, script, server, []))
                if growth.idle:
                    holders.append(hold(port, size))
        for number in range(options.rounds):
            for _, script, server, rounds in servers if number % 2 == 0 else reversed(servers):
                rounds.append(measure(server, script, options.seconds, options.cores))
        points = {p.name: [] for p, _ in contenders}
        for size, _, server, rounds in servers:
            points[server.name].append(
                {"size": size, **{k: statistics.median(r[k] for r in rounds) for k in ("cpu_us", "user_us", "rps")},
                 "pss_bytes": memory(server.pids())[0]})
    finally:
        for holder in holders:
            holder.kill()
            holder.wait()
        for server in [s for _, _, s, _ in servers] + ([origin] if origin else []):
            server.stop()
    return {"growth": growth.name, "what": growth.what, "points": points}


def hold(port, count):
    process = subprocess.Popen(
        [sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "holder.py"), str(port), str(count),
         "127.0.0.2", "/r/0", "world\n"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    said = process.stdout.readline().strip()
    if said != f"held {count}":
        process.kill()
        raise Refused(f"{count} idle connections: {said}")
    return process


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
        "peers": getattr(options, "versions", {}),
        "connections": getattr(options, "connections", CONNECTIONS),
        "rounds": options.rounds,
        "latency_rounds": getattr(options, "latency_rounds", None),
        "seconds": options.seconds,
    }


def version_of(peer, binary):
    flags = {"haproxy": "-v", "h2o": "-v", "lighttpd": "-v", "varnish": "-V", "apache": "-v", "node": "-v"}
    if peer.name not in flags:
        return "net10.0, JIT" if peer.name == "kestrel" else ""
    out = subprocess.run([binary, flags[peer.name]], capture_output=True, text=True)
    return (out.stdout + out.stderr).strip().splitlines()[0]


def arguments():
    parser = argparse.ArgumentParser(prog="bench/run")
    parser.add_argument("scenario", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 1 s, growth at fewer sizes")
    parser.add_argument("--smoke", action="store_true", help="1 round of 1 s, results not kept")
    parser.add_argument("--bare", action="store_true", help="only the bare variants")
    parser.add_argument("--realistic", action="store_true", help="only the realistic variants")
    parser.add_argument("--peers", help="only these servers besides nginx, separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--latency-rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--weir-binary", default=os.path.join(ROOT, "artifacts/bin/weir"))
    parser.add_argument("--nginx-binary", default=shutil.which("nginx") or "/usr/sbin/nginx")
    parser.add_argument("--output", default=os.path.join(ROOT, "bench/results"))
    options = parser.parse_args()
    options.warmup = 1
    if options.quick:
        options.rounds, options.seconds, options.latency_rounds = 3, 1, 3
    if options.smoke:
        options.rounds, options.seconds, options.warmup = 1, 1, 0
    last = (os.cpu_count() or 1) - 1
    options.cores = (0, min(1, last))
    return options


def choose_contenders(options):
    wanted = options.peers.split(",") + ["nginx"] if options.peers else None
    if options.smoke and wanted is None:
        wanted = ["weir", "weir-uring", "nginx"]
    known = {p.name for p in peers.ALL}
    if wanted and set(wanted) - known:
        raise SystemExit(f"bench: no such server: {', '.join(sorted(set(wanted) - known))}")
    options.contenders = []
    for peer in peers.ALL:
        if wanted is None or peer.name in wanted:
            binary = peer.find(options)
            if binary:
                options.contenders.append((peer, os.path.abspath(binary)))
            else:
                print(f"without {peer.name}: it is not here", file=sys.stderr)
    options.versions = {p.name: version_of(p, b) for p, b in options.contenders if not p.takes_conf}


def plan(options):
    """What to run: (scenario, realistic) pairs and growth curves."""
    everything = scenarios.ALL + scenarios.GROWTH
    unknown = set(options.scenario) - {s.name for s in everything}
    if unknown:
        raise SystemExit(f"bench: no such scenario: {', '.join(sorted(unknown))}")
    variants = [False, True] if options.bare == options.realistic else [options.realistic]
    chosen = [(s, v) for s in scenarios.ALL for v in variants if not options.scenario or s.name in options.scenario]
    growth = [g for g in scenarios.GROWTH if (not options.scenario and False in variants) or g.name in options.scenario]
    if options.smoke and not options.scenario:
        # Each kind once, within the time that a test may take.
        chosen = [(s, v) for s, v in chosen if s.connections <= 512
                  and (not v or s.name in ("return", "static-1k", "proxy"))]
        growth = [g for g in growth if g.name == "growth-servers"]
    return chosen, growth


def main():
    options = arguments()
    if options.list:
        for scenario in scenarios.ALL + scenarios.GROWTH:
            print(scenario.name)
        return 0
    chosen, growths = plan(options)
    raise_file_limit()
    results, curves, refused, failed = [], [], {}, 0
    base = tempfile.mkdtemp(prefix="weir-bench-")
    os.chmod(base, 0o755)
    options.tools = os.path.join(base, "tools")
    os.makedirs(options.tools)
    try:
        if not options.smoke:
            build_tool("openloop", options.tools)
        choose_contenders(options)
        files = os.path.join(base, "files")
        prepare_files(files)
        for scenario, realistic in chosen:
            label = f"{scenario.name} {'realistic' if realistic else 'bare'}"
            try:
                result = run(scenario, realistic, options, base, files)
                results.append(result)
                print(report.line(result), flush=True)
                for name, why in result["refused"].items():
                    print(f"refused: {label}: {name}: {why}", flush=True)
                    failed += name in ("weir", "weir-uring")
            except Refused as why:
                refused[label] = str(why)
                print(f"refused: {label}: {why}", flush=True)
        for growth in growths:
            try:
                curves.append(run_growth(growth, options, base, files))
                print(report.growth_line(curves[-1]), flush=True)
            except Refused as why:
                refused[growth.name] = str(why)
                print(f"refused: {growth.name}: {why}", flush=True)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    failed += len(refused)
    if options.smoke:
        print(f"{len(results) + len(curves) - failed + len(refused)} passed, {failed} failed, 0 skipped")
        return 1 if failed or not results else 0
    if results or curves:
        print("results: " + report.write(options.output, facts(options), results, curves, refused))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
