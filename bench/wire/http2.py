"""HTTP/2 of Weir beside nginx's: the same configuration, one worker on core 0, clients and upstream servers on core 1,
alternating rounds, medians. CPU is the worker's own, in nanoseconds, from the scheduler."""

import argparse
import os
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import bench

WHAT = ["small", "files", "grpc", "slow", "idle"]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SLOW_STREAMS = 100
HANDLED = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
           signal.SIGWINCH, signal.SIGCHLD, signal.SIGALRM, signal.SIGIO]

CONFIGURATION = """
daemon off; worker_processes 1; %(master)s user root; pid %(dir)s/pid; error_log %(dir)s/error.log error;
events { worker_connections 8192; %(events)s }
http {
    access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; sendfile on; server_tokens on;
    open_file_cache max=100 inactive=600s; http2_max_concurrent_streams 256; client_max_body_size 0;
    upstream calls { server 127.0.0.1:%(echo)d; keepalive 512; keepalive_requests 1000000000; }
    server {
        listen 127.0.0.1:%(plain)d http2 backlog=4096; listen 127.0.0.1:%(tls)d ssl http2 backlog=4096;
        root %(files)s;
        ssl_certificate %(files)s/crt; ssl_certificate_key %(files)s/key; ssl_protocols TLSv1.3;
        location /call/ { grpc_pass grpc://calls; }
        # With sendfile nginx leaves a small answer's second half to Nagle and the client's delayed acknowledgement.
        location = /probe { sendfile off; alias %(files)s/1k; }
    }
}
"""


class Server:
    """One of the two, with a configuration of its own."""

    def __init__(self, name, binary, base, files, echo, under=None):
        self.name, self.directory = name, tempfile.mkdtemp(dir=base)
        self.plain, self.tls = bench.free_port(), bench.free_port()
        path = os.path.join(self.directory, "nginx.conf")
        with open(path, "w") as f:
            f.write(CONFIGURATION % {
                "dir": self.directory, "plain": self.plain, "tls": self.tls, "files": files, "echo": echo,
                "master": "master_process off;" if under else "", "events": "use epoll;" if under else ""})
        self.process = subprocess.Popen(
            (under or ["taskset", "-c", "0"]) + [binary, "-p", self.directory + "/", "-c", path],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=open(os.path.join(self.directory, "stderr.log"), "w"),
            preexec_fn=(lambda: signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)) if under else None)
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.plain)) == 0:
                    break
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise bench.Refused(f"{name} did not start: {self.directory}")
            time.sleep(0.1)
        self.worker = self.process.pid if under else int(
            subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True).stdout.split()[0])

    def cpu_ns(self):
        tasks = f"/proc/{self.worker}/task"
        return sum(int(open(f"{tasks}/{t}/schedstat").read().split()[0]) for t in os.listdir(tasks))

    def memory_kib(self):
        with open(f"/proc/{self.worker}/smaps_rollup") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("Pss:"))

    def stop(self):
        self.process.send_signal(signal.SIGKILL if self.worker == self.process.pid else signal.SIGTERM)
        self.process.wait()


def load(url, count, clients, streams, *more):
    """h2load, which must find every answer."""
    command = ["taskset", "-c", "1", "h2load", "-n", str(count), f"-c{clients}", f"-m{streams}", *more, url]
    text = subprocess.run(command, capture_output=True, text=True).stdout
    if f"{count} succeeded, 0 failed, 0 errored, 0 timeout" not in text:
        raise bench.Refused(next((line for line in text.splitlines() if line.startswith("requests:")), "h2load failed"))


# A client by hand.

TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE
TLS.set_alpn_protocols(["h2"])

def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def headers(stream, path):
    fields = b"".join(bytes([0, len(n)]) + n + bytes([len(v)]) + v for n, v in (
        (b":method", b"GET"), (b":scheme", b"http"), (b":path", path), (b":authority", b"localhost")))
    return frame(1, 5, stream, fields)


class Client:
    def __init__(self, server, tls=False, window=None):
        self.socket = socket.create_connection(("127.0.0.1", server.tls if tls else server.plain), 60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = TLS.wrap_socket(self.socket)
        setting = b"" if window is None else b"\0\4" + window.to_bytes(4, "big")
        self.socket.sendall(PREFACE + frame(4, 0, 0, setting) + frame(8, 0, 0, (1 << 30).to_bytes(4, "big")))
        self.data, self.stream = b"", -1

    def ask(self, path):
        self.stream += 2
        self.socket.sendall(headers(self.stream, path))
        return self.stream

    def wait(self, stream):
        """Reads to the end of the answer."""
        while True:
            while len(self.data) >= 9:
                length = int.from_bytes(self.data[:3], "big")
                if len(self.data) < 9 + length:
                    break
                kind, flags, of = self.data[3], self.data[4], int.from_bytes(self.data[5:9], "big")
                self.data = self.data[9 + length:]
                if kind == 4 and not flags & 1:
                    self.socket.sendall(frame(4, 1, 0))
                if kind in (3, 7):
                    raise bench.Refused("the server has given up a stream")
                if of == stream and kind <= 1 and flags & 1:
                    return
            self.data += self.read()

    def read(self):
        more = self.socket.recv(65536)
        if not more:
            raise bench.Refused("the server closed a connection")
        return more


class SlowStreams:
    """One connection with many streams of a large file, each of which is let go on by 1 KiB every 20 ms."""

    def __init__(self, server):
        self.client, self.over = Client(server, window=1024), False
        self.streams = [self.client.ask(b"/10m") for _ in range(SLOW_STREAMS)]
        self.threads = [threading.Thread(target=t) for t in (self.read, self.open)]
        for thread in self.threads:
            thread.start()

    def read(self):
        try:
            while not self.over:
                self.client.read()
        except (OSError, bench.Refused):
            self.failed = not self.over

    def open(self):
        more = b"".join(frame(8, 0, s, (1024).to_bytes(4, "big")) for s in self.streams)
        while not self.over:
            self.client.socket.sendall(more)
            time.sleep(0.02)

    failed = False

    def end(self):
        self.over = True
        self.client.socket.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        if self.failed:
            raise bench.Refused("the connection with slow streams has failed")


def latencies(server, count):
    client, all_us = Client(server), []
    for _ in range(count):
        start = time.perf_counter_ns()
        client.wait(client.ask(b"/probe"))
        all_us.append((time.perf_counter_ns() - start) / 1000)
        time.sleep(0.0005)
    client.socket.close()
    all_us.sort()
    return all_us


def slow_probe(port, slow):
    """In a process of its own: half and 99 % of requests on an otherwise idle connection."""
    server = argparse.Namespace(plain=port, tls=0)
    streams = SlowStreams(server) if slow else None
    time.sleep(0.3)
    all_us = latencies(server, 1500)
    if streams:
        streams.end()
    print(all_us[len(all_us) // 2], all_us[len(all_us) * 99 // 100])


def idle(server, tls, count=2000):
    """Beyond the first 300, which pay for what a worker keeps once."""
    def open_one():
        client = Client(server, tls)
        client.wait(client.ask(b"/1k"))
        return client
    kept = [open_one() for _ in range(300)]
    time.sleep(1)
    before = server.memory_kib()
    kept += [open_one() for _ in range(count)]
    time.sleep(1)
    grown = server.memory_kib() - before
    for client in kept:
        client.socket.close()
    time.sleep(0.5)
    return grown * 1024 / count


class Bench:
    def __init__(self, options):
        self.options, self.samples = options, {}
        self.base = tempfile.mkdtemp(prefix="weir-bench-")
        os.chmod(self.base, 0o755)
        self.files = os.path.join(self.base, "files")
        os.mkdir(self.files)
        for name, size in (("1k", 1024), ("100k", 100 * 1024), ("10m", 10 * 1024 * 1024)):
            with open(os.path.join(self.files, name), "wb") as f:
                f.write(os.urandom(size))
        with open(os.path.join(self.base, "message"), "wb") as f:
            f.write(b"\0\0\0\0\x40" + os.urandom(64))
        bench.make_certificate(self.files)
        echo = os.path.join(self.base, "grpc-echo")
        subprocess.run(["gcc", "-O2", "-o", echo, os.path.join(bench.ROOT, "bench/floor/grpc-echo.c")], check=True)
        self.echo = bench.free_port()
        self.upstream = subprocess.Popen(["taskset", "-c", "1", echo, str(self.echo)])
        self.binaries = {"weir": options.weir_binary, "nginx": options.nginx_binary}

    def start(self, name, under=None, binary=None):
        return Server(name, binary or self.binaries[name], self.base, self.files, self.echo, under)

    def note(self, what, name, value):
        self.samples.setdefault(what, {}).setdefault(name, []).append(value)

    def cpu(self, what, server, count, url, *how):
        before = server.cpu_ns()
        load(url, count, *how)
        self.note(what, server.name, (server.cpu_ns() - before) / 1000 / count)

    def call(self):
        return "-d", os.path.join(self.base, "message"), "-H", "content-type: application/grpc", "-H", "te: trailers"

    def round(self, chosen, server):
        n = self.options.requests
        plain, tls = f"http://127.0.0.1:{server.plain}", f"https://127.0.0.1:{server.tls}"
        if "small" in chosen:
            self.cpu("1 KiB, µs", server, n, plain + "/1k", 16, 32)
            self.cpu("1 KiB over TLS, µs", server, n, tls + "/1k", 16, 32)
        if "files" in chosen:
            self.cpu("100 KiB, µs", server, max(n // 20, 100), plain + "/100k", 8, 8)
            self.cpu("100 KiB over TLS, µs", server, max(n // 20, 100), tls + "/100k", 8, 8)
            self.cpu("10 MiB, µs", server, max(n // 1000, 20), plain + "/10m", 4, 2)
            self.cpu("10 MiB over TLS, µs", server, max(n // 1000, 20), tls + "/10m", 4, 2)
        if "grpc" in chosen:
            self.cpu("gRPC unary, -c16 -m32, µs", server, n // 2, plain + "/call/Echo", 16, 32, *self.call())
            self.cpu("gRPC unary, -c64 -m1, µs", server, n // 4, plain + "/call/Echo", 64, 1, *self.call())
        if "slow" in chosen:
            for slow in (False, True):
                half, most = map(float, subprocess.run(
                    ["taskset", "-c", "1", sys.executable, __file__, "--probe", str(server.plain), str(int(slow))],
                    capture_output=True, text=True, check=True).stdout.split())
                words = f"beside {SLOW_STREAMS} slow streams" if slow else "alone"
                self.note(f"p50 {words}, µs", server.name, half)
                self.note(f"p99 {words}, µs", server.name, most)

    def run(self, chosen):
        rounds = self.options.rounds
        if set(chosen) - {"idle"}:
            servers = [self.start(name) for name in self.binaries]
            for i in range(-1, rounds):
                for server in servers:
                    self.round(chosen, server)
                if i < 0:
                    # The first round warms up.
                    self.samples.clear()
            for server in servers:
                server.stop()
        if "idle" in chosen:
            for _ in range(min(rounds, 3)):
                for name in self.binaries:
                    for tls in (False, True):
                        server = self.start(name)
                        self.note(f"an idle connection{' over TLS' * tls}, bytes", name, idle(server, tls))
                        server.stop()

    def instructions(self, chosen):
        """Under callgrind, the requests of one kind counted."""
        paths = {"small": ("/1k", 16, 32, ()), "files": ("/100k", 8, 8, ()),
                 "grpc": ("/call/Echo", 16, 32, self.call())}
        for what in (w for w in chosen if w in paths):
            path, clients, streams, more = paths[what]
            for name, binary in self.binaries.items():
                copy = os.path.join(self.base, f"{name}-under-test")
                if not os.path.exists(copy):
                    shutil.copy(binary, copy)
                    subprocess.run(["objcopy", "--strip-debug", copy], check=False)
                out = os.path.join(self.base, f"{what}-{name}.out")
                os.environ["DOTNET_GCHeapHardLimit"] = "0x10000000"
                server = self.start(name, ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"], copy)
                time.sleep(2)
                url = f"http://127.0.0.1:{server.plain}{path}"
                load(url, 1000, clients, streams, *more)
                for word, count in (("zero", 4000), ("dump", 0)):
                    subprocess.run(["vgdb", f"--pid={server.process.pid}", word], check=True, capture_output=True)
                    if count:
                        load(url, count, clients, streams, *more)
                time.sleep(1)
                written = next(p for p in (out + ".1", out) if os.path.exists(p))
                with open(written) as f:
                    total = next(int(line.split()[1]) for line in f if line.startswith("totals:"))
                self.note(f"{what}, instructions", name, total / 4000)
                if self.options.profile:
                    os.makedirs(self.options.profile, exist_ok=True)
                    shutil.copy(written, os.path.join(self.options.profile, f"{what}-{name}.out"))
                server.stop()

    def table(self):
        def number(v):
            return f"{v:.2f}" if v < 100 else f"{v:.0f}"
        yield "| | Weir | nginx | ratio | Weir's rounds | nginx's rounds |"
        yield "|---|---|---|---|---|---|"
        for what, by in self.samples.items():
            w, n = statistics.median(by["weir"]), statistics.median(by["nginx"])
            rounds = " | ".join(" ".join(map(number, by[k])) for k in ("weir", "nginx"))
            yield f"| {what} | {number(w)} | {number(n)} | {w / max(n, 0.01):.2f} | {rounds} |"


def first_line(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip().splitlines()[0]


def machine():
    """Processor, kernel, day and commit of a run, for its first line."""
    with open("/proc/cpuinfo") as f:
        cpu = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "unknown")
    commit = subprocess.run(["git", "-C", bench.ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return (f"{cpu}, Linux {os.uname().release}, {time.strftime('%Y-%m-%d', time.gmtime())}, "
            f"commit {commit.stdout.strip() or 'unknown'}")


def main():
    if sys.argv[1:2] == ["--probe"]:
        slow_probe(int(sys.argv[2]), sys.argv[3] == "1")
        return
    parser = argparse.ArgumentParser(prog="bench/http2")
    parser.add_argument("what", nargs="*", choices=[*WHAT, []])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--profile")
    parser.add_argument("--result")
    parser.add_argument("--weir-binary", default=os.path.join(bench.ROOT, "artifacts/bin/weir"))
    parser.add_argument("--nginx-binary", default=shutil.which("nginx") or "/usr/sbin/nginx")
    options = parser.parse_args()
    chosen = options.what or WHAT
    run = Bench(options)
    try:
        (run.instructions if options.instructions else run.run)(chosen)
    except bench.Refused as e:
        sys.exit(f"bench/http2: {e}")
    finally:
        run.upstream.kill()
        shutil.rmtree(run.base, ignore_errors=True)
    text = "\n".join([
        "# HTTP/2 beside nginx", "",
        f"One worker on one core, clients and upstream servers on another; medians of {options.rounds} alternating "
        f"rounds; CPU microseconds of the worker per request, {options.requests} small requests a round. "
        f"{first_line(options.weir_binary, '-v').split('(')[-1].rstrip(')')}, "
        f"{first_line(options.nginx_binary, '-v').split(': ')[-1]}, {machine()}.", "",
        *run.table(), ""])
    print(text)
    if options.result:
        with open(options.result, "w") as f:
            f.write(text)


if __name__ == "__main__":
    main()
