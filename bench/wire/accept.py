"""How evenly connections spread over the workers. Every connection asks once and stays open; then the established
sockets of each worker are counted in /proc. The busiest worker's share of an even share is the figure: 1.00 is
perfect."""

import argparse
import json
import os
import selectors
import shutil
import socket
import statistics
import sys
import tempfile

import bench

MODES = [("shared", "", ""), ("accept_mutex", "", "accept_mutex on; accept_mutex_delay 50ms;"),
         ("reuseport", " reuseport", "")]
WORKERS = (1, 2, 8)
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

CONF = """
daemon off;
worker_processes {workers};
{user}
pid {dir}/server.pid;
error_log {dir}/error.log error;
worker_rlimit_nofile 8192;
events {{ worker_connections 8000; {engine} {events} }}
http {{
    access_log off;
    keepalive_timeout 600s;
    {temp}
    server {{ listen 127.0.0.1:{port} backlog=4096{listen}; location / {{ return 200 ok; }} }}
}}
"""


def one_by_one(port, count):
    clients = []
    for _ in range(count):
        s = socket.create_connection(("127.0.0.1", port), 10)
        s.sendall(REQUEST)
        if not s.recv(4096).endswith(b"ok"):
            raise bench.Refused("an answer that is none")
        clients.append(s)
    return clients


def at_once(port, count):
    """All connect before anybody reads: the workers find a long queue."""
    clients, selector = [], selectors.DefaultSelector()
    for _ in range(count):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex(("127.0.0.1", port))
        selector.register(s, selectors.EVENT_WRITE)
        clients.append(s)
    waiting = count
    while waiting:
        ready = selector.select(10)
        if not ready:
            raise bench.Refused(f"{waiting} connections without an answer")
        for key, events in ready:
            if events & selectors.EVENT_WRITE:
                key.fileobj.sendall(REQUEST)
                selector.modify(key.fileobj, selectors.EVENT_READ)
            elif key.fileobj.recv(4096).endswith(b"ok"):
                selector.unregister(key.fileobj)
                waiting -= 1
            else:
                raise bench.Refused("an answer that is none")
    return clients


def established(port):
    """Inodes of the server's ends of the connections."""
    with open("/proc/net/tcp") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    return {f"socket:[{r[9]}]" for r in rows if r[3] == "01" and r[1].endswith(f":{port:04X}")}


def count(pid, inodes):
    found = 0
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found += os.readlink(f"/proc/{pid}/fd/{fd}") in inodes
        except OSError:
            pass
    return found


def spread(name, binary, mode, workers, arrival, options, base):
    directory, port = tempfile.mkdtemp(dir=base), bench.free_port()
    conf = CONF.format(workers=workers, dir=directory, port=port, listen=mode[1], events=mode[2],
                       user="user root;" if os.geteuid() == 0 else "", engine=f"use {options.engine};",
                       temp=bench.scenarios.temp(binary, directory))
    server = bench.Server(name, binary, None, directory, conf, port)
    try:
        bench.wait_workers(server, workers)
        clients = arrival(port, options.connections)
        inodes = established(port)
        shares = sorted(count(pid, inodes) for pid in bench.children(server.process.pid))[-workers:]
        for client in clients:
            client.close()
        if sum(shares) != options.connections:
            raise bench.Refused(f"{sum(shares)} connections of {options.connections} are with the workers")
        return shares
    finally:
        server.stop()


def write(path, facts, rows, options):
    with open(os.path.join(path, "accept.json"), "w") as f:
        json.dump({"facts": facts, "rows": rows}, f, indent=1)
    lines = [
        "# Spread of connections over the workers", "",
        f"{facts['date']}, {facts['commit']}, {facts['cpu']} ({facts['cores']} cores), Linux {facts['kernel']}, "
        f"{facts['weir']}, {facts['nginx']}, {options.connections} connections, median of {options.rounds} rounds.", "",
        "The busiest worker's connections divided by an even share (1.00 is perfect, the number of workers is one",
        "worker doing everything), and the counts of one round. `bench/accept` measures again.", "",
        "| workers | socket | arrival | Weir | nginx | Weir's workers | nginx's workers |",
        "|---|---|---|---|---|---|---|"]
    for r in rows:
        lines.append(f"| {r['workers']} | {r['mode']} | {r['arrival']} | {r['weir']['busiest']:.2f} | "
                     f"{r['nginx']['busiest']:.2f} | {' '.join(map(str, r['weir']['shares']))} | "
                     f"{' '.join(map(str, r['nginx']['shares']))} |")
    with open(os.path.join(path, "accept.md"), "w") as f:
        f.write("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(prog="bench/accept")
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", default="epoll")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--weir-binary", default=os.path.join(bench.ROOT, "artifacts/bin/weir"))
    parser.add_argument("--nginx-binary", default=shutil.which("nginx") or "/usr/sbin/nginx")
    parser.add_argument("--output", default=os.path.join(bench.ROOT, "bench/results"))
    options = parser.parse_args()
    options.seconds = 0
    if options.smoke:
        options.connections, options.rounds = 100, 1
    bench.raise_file_limit()
    rows, base = [], tempfile.mkdtemp(prefix="weir-bench-")
    os.chmod(base, 0o755)
    try:
        for workers in (2,) if options.smoke else WORKERS:
            for mode in MODES:
                for label, arrival in (("one by one", one_by_one), ("at once", at_once)):
                    row = {"workers": workers, "mode": mode[0], "arrival": label}
                    for name, binary in (("weir", options.weir_binary), ("nginx", options.nginx_binary)):
                        rounds = [spread(name, binary, mode, workers, arrival, options, base)
                                  for _ in range(options.rounds)]
                        even = options.connections / workers
                        row[name] = {"busiest": statistics.median(max(s) / even for s in rounds), "shares": rounds[0]}
                    rows.append(row)
                    print(f"{workers} {mode[0]:13}{label:11} weir {row['weir']['busiest']:.2f} "
                          f"nginx {row['nginx']['busiest']:.2f}", flush=True)
    except bench.Refused as why:
        print(f"refused: {why}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if options.smoke:
        print(f"{len(rows)} passed, 0 failed, 0 skipped")
    else:
        write(options.output, bench.facts(options), rows, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
