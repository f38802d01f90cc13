"""What idle keep-alive connections cost. `memory`: resident bytes of a worker with N of them, less those of the same
server with 512 connection slots and nobody connected, divided by N. `crowd`: eight workers hold very many while other
clients ask at a steady rate; their latency with and without the crowd."""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import bench

CONF = """
daemon off;
worker_processes {workers};
{user}
pid {dir}/server.pid;
error_log {dir}/error.log error;
worker_rlimit_nofile {files};
events {{ worker_connections {slots}; {engine} }}
http {{
    access_log off;
    keepalive_timeout 3600s;
    keepalive_requests 1000000;
    {temp}
    server {{
        listen 127.0.0.1:{port} backlog=4096{listen};
        location / {{ return 200 ok; }}
    }}
}}
"""
HOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "holder.py")
HELD_MAX = 19000
# nginx closes idle connections when a sixteenth of a worker's slots is left; reuseport fills workers unevenly.
NGINX_CROWD_MAX = 140000


def start(name, binary, options, base, workers, slots, listen=""):
    directory, port = tempfile.mkdtemp(dir=base), bench.free_port()
    conf = CONF.format(workers=workers, dir=directory, port=port, slots=slots, listen=listen,
                       files=min(slots + 500, 20000),
                       user="user root;" if os.geteuid() == 0 else "", engine=f"use {options.engine};"
                       if name == "weir" else "use epoll;", temp=bench.scenarios.temp(binary, directory))
    server = bench.Server(name, binary, None, directory, conf, port)
    bench.wait_workers(server, workers)
    return server


class Holders:
    """Client processes that hold connections, each from an address of its own."""

    def __init__(self, port, counts):
        self.counts = counts
        self.processes = [subprocess.Popen(
            [sys.executable, HOLDER, str(port), str(n), f"127.0.0.{i + 2}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for i, n in enumerate(counts)]
        try:
            self.expect("held")
        except bench.Refused:
            self.stop()
            raise

    def expect(self, word):
        for process, n in zip(self.processes, self.counts):
            said = process.stdout.readline().strip()
            if said != f"{word} {n}":
                raise bench.Refused(f"a holder of {n} connections said: {said or 'nothing'}")

    def ask_again(self):
        for process in self.processes:
            process.stdin.write("\n")
            process.stdin.flush()
        self.expect("again")

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()


def resident(server):
    """Resident and proportional bytes of all workers."""
    rss = pss = 0
    for pid in bench.children(server.process.pid):
        with open(f"/proc/{pid}/smaps_rollup") as f:
            text = f.read()
        rss += int(re.search(r"^Rss:\s+(\d+)", text, re.M).group(1)) * 1024
        pss += int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1)) * 1024
    return rss, pss


def memory(name, binary, options, base):
    server = start(name, binary, options, base, 1, 512)
    try:
        Holders(server.port, [1]).stop()
        time.sleep(1)
        empty = resident(server)[0]
    finally:
        server.stop()
    n = min(options.connections, HELD_MAX)
    # nginx begins to close idle connections when a sixteenth of its slots is left.
    server = start(name, binary, options, base, 1, n + n // 15 + 100)
    holders = None
    try:
        holders = Holders(server.port, [n])
        time.sleep(options.settle)
        full = resident(server)[0]
        holders.ask_again()
        time.sleep(options.settle)
        again = resident(server)[0]
    finally:
        if holders:
            holders.stop()
        server.stop()
    return {"connections": n, "empty_bytes": empty, "full_bytes": full, "again_bytes": again,
            "bytes_per_connection": (full - empty) / n, "bytes_per_connection_again": (again - empty) / n}


def open_loop(tool, port, options, seconds):
    out = subprocess.run([tool, "127.0.0.1", str(port), "/", str(options.rate), "64", str(seconds)],
                         capture_output=True, text=True, check=True).stdout
    result = json.loads(out)
    if result["errors"]:
        raise bench.Refused(f"active clients had errors: {out}")
    return result


def median_loop(tool, port, options, rounds):
    """Open loops one after another; of each figure its median, and each round's p99."""
    loops = [open_loop(tool, port, options, options.seconds) for _ in range(rounds)]
    result = {k: statistics.median(r[k] for r in loops) for k in ("p50_us", "p99_us", "slice_p99_us")}
    return {**result, "rounds_slice_p99_us": [r["slice_p99_us"] for r in loops]}


def crowd(name, binary, options, base, tool):
    workers = options.workers
    slots = options.crowd * 5 // (workers * 4) + 1000
    server = start(name, binary, options, base, workers, min(slots, 19500), " reuseport")
    holders = None
    try:
        bench.await_quiet(options.smoke)
        open_loop(tool, server.port, options, 1)
        before = median_loop(tool, server.port, options, options.rounds)
        empty = resident(server)
        processes = max(6 if not options.smoke else 1, -(-options.crowd // HELD_MAX))
        share = options.crowd // processes
        holders = Holders(server.port, [share] * (processes - 1) + [options.crowd - share * (processes - 1)])
        time.sleep(options.settle)
        during = median_loop(tool, server.port, options, options.rounds)
        full = resident(server)
        holders.ask_again()
    finally:
        if holders:
            holders.stop()
        server.stop()
    return {"connections": options.crowd, "sources": processes, "workers": workers, "rate": options.rate,
            "without": before, "with": during, "empty_rss": empty[0], "empty_pss": empty[1], "full_rss": full[0],
            "full_pss": full[1]}


def p99(figures):
    rounds = figures["rounds_slice_p99_us"]
    return f"{figures['slice_p99_us']:.0f} ({min(rounds):.0f} to {max(rounds):.0f})"


def write(options, facts, results):
    path = os.path.join(options.output, "idle.json")
    if os.path.exists(path):
        with open(path) as f:
            results = {**json.load(f)["results"], **results}
    with open(path, "w") as f:
        json.dump({"facts": facts, "results": results}, f, indent=1)
    lines = ["# Idle connections", "",
             f"{facts['date']}, {facts['commit']}, {facts['cpu']} ({facts['cores']} cores), Linux {facts['kernel']}, "
             f"{facts['weir']}, {facts['nginx']}. `bench/idle` measures again.", ""]
    held = [(n, r["memory"]) for n, r in sorted(results.items()) if "memory" in r]
    if held:
        base = next((m["bytes_per_connection"] for n, m in held if n == "nginx"), None)
        lines += [
            "Resident bytes of one worker with the connections, less those of the same server with 512 slots and",
            "nobody connected, by their number; and again after every connection has been answered once more.", "",
            "| server | connections | bytes each | against nginx | after one more answer each |",
            "|---|---|---|---|---|"]
        for name, m in held:
            ratio = f"{m['bytes_per_connection'] / base:.2f}" if base else ""
            lines.append(f"| {name} | {m['connections']:,} | {m['bytes_per_connection']:.0f} | {ratio} | "
                         f"{m['bytes_per_connection_again']:.0f} |")
        lines.append("")
    many = [(n, r["crowd"]) for n, r in sorted(results.items()) if "crowd" in r]
    if many:
        lines += [
            "Active clients (open loop, 64 connections) beside the idle ones; every idle connection answered once",
            "more afterwards. Latency in µs: medians of the rounds (p99 in a round is the median of that of each",
            "quarter of a second; in brackets the least and the most of the rounds); memory of all workers in MiB.", "",
            "| server | idle | workers | requests/s | p50 without | p50 with | p99 without | p99 with | RSS | PSS |",
            "|---|---|---|---|---|---|---|---|---|---|"]
        for name, c in many:
            a, b = c["without"], c["with"]
            lines.append(
                f"| {name} | {c['connections']:,} | {c['workers']} | {c['rate']:,} | {a['p50_us']:.0f} | "
                f"{b['p50_us']:.0f} | {p99(a)} | {p99(b)} | "
                f"{c['full_rss'] / 2**20:.0f} | "
                f"{c['full_pss'] / 2**20:.0f} |")
        lines += [f"\n{n} is not in the table: {r['no_crowd']}" for n, r in results.items() if "no_crowd" in r]
    with open(os.path.join(options.output, "idle.md"), "w") as f:
        f.write("\n".join(lines).rstrip() + "\n")


def main():
    parser = argparse.ArgumentParser(prog="bench/idle")
    parser.add_argument("what", nargs="*", choices=["memory", "crowd", []])
    parser.add_argument("--connections", type=int, default=HELD_MAX)
    parser.add_argument("--crowd", type=int, default=150000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--settle", type=float, default=3)
    parser.add_argument("--engines", default="epoll,io_uring")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--weir-binary", default=os.path.join(bench.ROOT, "artifacts/bin/weir"))
    parser.add_argument("--nginx-binary", default=shutil.which("nginx") or "/usr/sbin/nginx")
    parser.add_argument("--output", default=os.path.join(bench.ROOT, "bench/results"))
    options = parser.parse_args()
    if options.smoke:
        options.rounds = 1
        options.connections, options.crowd, options.workers, options.seconds, options.settle = 200, 400, 2, 1, 0.2
    what = options.what or ["memory", "crowd"]
    bench.raise_file_limit()
    results, base = {}, tempfile.mkdtemp(prefix="weir-bench-")
    os.chmod(base, 0o755)
    try:
        engines = options.engines.split(",")
        for name, binary, engine in [*(("weir", options.weir_binary, e) for e in engines),
                                     ("nginx", options.nginx_binary, None)]:
            label = f"weir ({engine})" if name == "weir" else name
            options.engine = engine
            results[label] = {}
            if name == "nginx":
                options.crowd = min(options.crowd, NGINX_CROWD_MAX)
            if "memory" in what:
                results[label]["memory"] = m = memory(name, binary, options, base)
                print(f"{label}: {m['bytes_per_connection']:.0f} bytes a connection, "
                      f"{m['bytes_per_connection_again']:.0f} after one more answer each", flush=True)
            if "crowd" in what:
                try:
                    c = crowd(name, binary, options, base, bench.build_tool("openloop", base))
                except bench.Refused as why:
                    results[label]["no_crowd"] = str(why)
                    print(f"{label}: no crowd: {why}", flush=True)
                    continue
                results[label]["crowd"] = c
                print(f"{label}: {c['connections']} idle, p99 {c['without']['slice_p99_us']:.0f} -> "
                      f"{c['with']['slice_p99_us']:.0f} us, RSS {c['full_rss'] >> 20} MiB", flush=True)
    except bench.Refused as why:
        print(f"refused: {why}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if options.smoke:
        print(f"{len(results)} passed, 0 failed, 0 skipped")
    else:
        write(options, bench.facts(options), results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
