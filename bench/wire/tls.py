"""TLS, HTTP/2 and gRPC of Weir beside nginx's, one figure for each aim: one worker on core 0, clients and upstream
servers on core 1, the same key, curve and bytes, alternating rounds, medians. CPU is the worker's own, in nanoseconds,
from the scheduler; what a client waits for when the worker is the limit is its reciprocal."""

import argparse
import os
import re
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import time

import bench
import http2

MIB = 1 << 20
http2.CONFIGURATION = """
daemon off; worker_processes 1; %(master)s user root; pid %(dir)s/pid; error_log %(dir)s/error.log error;
events { worker_connections 8192; %(events)s }
http {
    access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; sendfile on; server_tokens on;
    open_file_cache max=100 inactive=600s; http2_max_concurrent_streams 256; client_max_body_size 0;
    upstream calls { server 127.0.0.1:%(echo)d; keepalive 512; keepalive_requests 1000000000; }
    server {
        listen 127.0.0.1:%(plain)d http2 backlog=4096; listen 127.0.0.1:%(tls)d ssl http2 backlog=4096;
        root %(files)s;
        ssl_certificate %(files)s/crt; ssl_certificate_key %(files)s/key; ssl_protocols TLSv1.2 TLSv1.3;
        ssl_ecdh_curve X25519; ssl_session_cache shared:bench:10m;
        location /call/ { grpc_pass grpc://calls; }
        # With sendfile nginx leaves a small answer's second half to Nagle and the client's delayed acknowledgement.
        location = /probe { sendfile off; alias %(files)s/1k; }
    }
}
"""

# What is measured: (name, unit, aim as a ratio of nginx's, the aim in words)
AIMS = {
    "https": ("HTTPS keep-alive, 1 KiB, CPU of a request", "µs", 0.80, "≤ 0.80x"),
    "full": ("full handshakes for a second of CPU", "1/s", 0.97, "≥ 0.97x"),
    "resumed": ("resumed handshakes for a second of CPU", "1/s", 1.0, "≥ 1.0x"),
    "large": ("100 MiB over TLS, CPU", "ms", 1.0, "≤ 1.0x"),
    "h2": ("HTTP/2 1 KiB, `h2load -c16 -m32`, CPU of a request", "µs", 0.35, "≤ 0.35x"),
    "h2tls": ("the same over TLS", "µs", 0.35, "≤ 0.35x"),
    "h2large": ("10 MiB over HTTP/2 and TLS, CPU", "ms", 1.0, "≤ 1.0x"),
    "grpc": ("gRPC unary through the gateway, 16 x 32 at once, CPU of a call", "µs", 0.6, "≤ 0.6x"),
    "grpc1": ("gRPC unary, 64 clients with one call each, CPU of a call", "µs", 0.6, "≤ 0.6x"),
    "idle": ("an idle TLS connection, memory of the worker", "bytes", 1.0, "≤ 1.0x"),
    "idleh2": ("an idle HTTP/2 connection over TLS, memory of the worker", "bytes", None, ""),
    "idleh2c": ("an idle HTTP/2 connection without TLS, memory of the worker", "bytes", None, ""),
    "slow": ("p99 beside a connection with 100 slow streams / alone", "", None, "≤ 1.2, or 0.2 ms more"),
}
SLOW_RATIO, SLOW_MORE_US = 1.2, 200


def idle_tls(server, count=1000):
    """Bytes of the worker's memory for a TLS connection that has had one request."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def connect():
        s = context.wrap_socket(socket.create_connection(("127.0.0.1", server.tls)))
        s.sendall(b"GET /1k HTTP/1.1\r\nHost: localhost\r\n\r\n")
        got = 0
        while got < 1200:
            got += len(s.recv(4096))
        return s

    kept = [connect() for _ in range(100)]
    time.sleep(1)
    before = server.memory_kib()
    kept += [connect() for _ in range(count)]
    time.sleep(1)
    grown = server.memory_kib() - before
    for s in kept:
        s.close()
    return grown * 1024 / count


class Bench(http2.Bench):
    def used(self, what, server, count, scale):
        """What a run's CPU was, as the figure that is told; count: how many, or what finds it out."""
        before = server.cpu_ns()
        done = count()
        spent = server.cpu_ns() - before
        if done <= 0:
            raise bench.Refused(f"{what}: nothing was done")
        self.note(what, server.name, scale(spent / done))

    def client(self, pattern, *command):
        text = subprocess.run(["taskset", "-c", "1", *command], capture_output=True, text=True).stdout
        if re.search(r"Socket errors|Non-2xx", text):
            raise bench.Refused(f"{command[0]}: {text}")
        found = re.search(pattern, text)
        return int(found.group(1)) if found else 0

    def round(self, chosen, server):
        n, seconds = self.options.requests, str(self.options.seconds)
        plain, tls = f"http://127.0.0.1:{server.plain}", f"https://127.0.0.1:{server.tls}"
        shake = ["openssl", "s_time", "-connect", f"127.0.0.1:{server.tls}", "-time", seconds]
        us, per_second = (lambda ns: ns / 1000), (lambda ns: 1e9 / ns)
        if "https" in chosen:
            self.used("https", server, lambda: self.client(r"(\d+) requests in", "wrk", "-t1", "-c64", f"-d{seconds}s",
                                                           tls + "/1k"), us)
        if "full" in chosen:
            self.used("full", server, lambda: self.client(r"(\d+) connections in", *shake, "-new"), per_second)
        if "resumed" in chosen:
            self.used("resumed", server,
                      lambda: self.client(r"(\d+) connections in", *shake, "-tls1_2", "-reuse"), per_second)
        if "large" in chosen:
            def load():
                for _ in range(4):
                    subprocess.run(["taskset", "-c", "1", "curl", "-skf", "--http1.1", "-o", "/dev/null",
                                    tls + "/100m"], check=True)
                return 4
            self.used("large", server, load, lambda ns: ns / 1e6)

        def streams(what, count, url, *how, scale=us):
            def load():
                http2.load(url, count, *how)
                return count
            if what in chosen:
                self.used(what, server, load, scale)
        streams("h2", n, plain + "/1k", 16, 32)
        streams("h2tls", n, tls + "/1k", 16, 32)
        streams("h2large", 60, tls + "/10m", 4, 2, scale=lambda ns: ns / 1e6)
        streams("grpc", n // 2, plain + "/call/Echo", 16, 32, *self.call())
        streams("grpc1", n // 4, plain + "/call/Echo", 64, 1, *self.call())
        if "slow" in chosen:
            most = [float(subprocess.run(
                ["taskset", "-c", "1", sys.executable, http2.__file__, "--probe", str(server.plain), str(slow)],
                capture_output=True, text=True, check=True).stdout.split()[1]) for slow in (0, 1)]
            self.note("slow", server.name, most[1] / most[0])
            self.note("slow more", server.name, most[1] - most[0])
            self.note("slow p99", server.name, most[1])

    def memory(self, chosen):
        for _ in range(min(self.options.rounds, 3)):
            for name in self.binaries:
                for what, measure in (("idle", idle_tls), ("idleh2", lambda s: http2.idle(s, True)),
                                      ("idleh2c", lambda s: http2.idle(s, False))):
                    if what in chosen:
                        server = self.start(name)
                        self.note(what, name, measure(server))
                        server.stop()

    def run(self, chosen):
        rounds = self.options.rounds
        if set(chosen) - {"idle", "idleh2", "idleh2c"}:
            servers = [self.start(name) for name in self.binaries]
            for server in servers:
                # Warms up.
                http2.load(f"https://127.0.0.1:{server.tls}/1k", 20_000, 16, 32)
            for i in range(rounds):
                for server in servers if i % 2 == 0 else reversed(servers):
                    self.round(chosen, server)
            for server in servers:
                server.stop()
        self.memory(chosen)

    def table(self):
        def number(v):
            return f"{v:.2f}" if v < 100 else f"{v:,.0f}"
        yield "| | aim | Weir | nginx | ratio | met | ratio of each round |"
        yield "|---|---|---|---|---|---|---|"
        for what, (name, unit, aim, words) in AIMS.items():
            if what not in self.samples:
                continue
            mine, theirs = self.samples[what]["weir"], self.samples[what]["nginx"]
            w, n = statistics.median(mine), statistics.median(theirs)
            if what == "slow":
                more = statistics.median(self.samples["slow more"]["weir"])
                yield (f"| {name} | {words} | {w:.2f} ({more:+.0f} µs) | {n:.2f} | "
                       f"| {'yes' if w <= SLOW_RATIO or more <= SLOW_MORE_US else '**no**'} | "
                       f"{' '.join(f'{v:.2f}' for v in mine)} |")
                continue
            # Rounds stand beside each other in time: the median of their ratios is the steadier figure.
            each = [a / max(b, 0.01) for a, b in zip(mine, theirs)]
            ratio = statistics.median(each)
            good = aim is not None and (ratio >= aim if words.startswith("≥") else ratio <= aim)
            met = "" if aim is None else "yes" if good else "**no**"
            yield (f"| {name} | {words} | {number(w)} {unit} | {number(n)} {unit} | {ratio:.2f} | {met} | "
                   f"{' '.join(f'{v:.2f}' for v in each)} |")


def main():
    parser = argparse.ArgumentParser(prog="bench/tls")
    parser.add_argument("what", nargs="*", choices=[*AIMS, []], metavar="WHAT", help=" ".join(AIMS))
    parser.add_argument("--requests", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--result")
    parser.add_argument("--weir-binary", default=os.path.join(bench.ROOT, "artifacts/bin/weir"))
    parser.add_argument("--nginx-binary", default=shutil.which("nginx") or "/usr/sbin/nginx")
    options = parser.parse_args()
    chosen = options.what or list(AIMS)
    run = Bench(options)
    with open(os.path.join(run.files, "100m"), "wb") as f:
        f.write(os.urandom(100 * MIB))
    began = time.monotonic()
    try:
        run.run(chosen)
    except bench.Refused as e:
        sys.exit(f"bench/tls: {e}")
    finally:
        run.upstream.kill()
        shutil.rmtree(run.base, ignore_errors=True)
    text = "\n".join([
        "# TLS, HTTP/2 and gRPC beside nginx", "",
        f"`bench/tls`: one worker on one core, clients and upstream servers on another, the same P-256 key and curve; "
        f"medians of {options.rounds} alternating rounds, {time.monotonic() - began:.0f} s in all. "
        f"{http2.first_line(options.weir_binary, '-v').split('(')[-1].rstrip(')')}, "
        f"{http2.first_line(options.nginx_binary, '-v').split(': ')[-1]}, {http2.first_line('openssl', 'version')}, "
        f"{http2.machine()}.", "",
        *run.table(), ""])
    print(text)
    if options.result:
        with open(options.result, "w") as f:
            f.write(text)


if __name__ == "__main__":
    main()
