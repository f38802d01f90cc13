"""Runs Weir on the JIT, its code instrumented, under the bench's scenarios and over TLS and HTTP/2; what was counted
becomes the profile that the ahead-of-time compiler reads."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile

import bench
import scenarios

BUILT = os.path.join(bench.ROOT, "artifacts/profile/bin/Weir/release_net10.0")
WRITER = os.path.join(bench.ROOT, "artifacts/bin/mibc/release/Weir.Bench.Mibc")
PROFILE = os.path.join(bench.ROOT, "src/Weir/weir.mibc")
SCENARIOS = ("return", "static-1k", "static-1k-nocache", "static-100k", "static-10m", "proxy", "proxy-100k",
             "cache-hit", "pipelined16", "short-lived")

# Instrumented from the first call to the last: nothing is optimised, inlined or taken as it comes with the runtime.
COUNTING = {
    "DOTNET_TieredPGO": "1", "DOTNET_TieredPGO_InstrumentOnlyHotCode": "0", "DOTNET_ReadyToRun": "0",
    "DOTNET_TieredCompilation": "1", "DOTNET_TC_CallCounting": "0", "DOTNET_TC_OnStackReplacement": "0",
    "DOTNET_TC_QuickJitForLoops": "1", "DOTNET_WritePGOData": "1",
}

TLS = """
daemon off; worker_processes 1; {user} pid {dir}/server.pid; error_log {dir}/error.log error;
worker_rlimit_nofile 20000;
events {{ worker_connections 8192; use {engine}; }}
http {{
    sendfile on; keepalive_timeout 600s; keepalive_requests 1000000000; access_log off;
    types {{ text/html html; application/octet-stream bin; }}
    open_file_cache max=4000 inactive=600s;
    server {{
        listen 127.0.0.1:{port} ssl http2 backlog=4096;
        root {files}; ssl_certificate {files}/crt; ssl_certificate_key {files}/key;
        location /s/ {{ gzip on; gzip_min_length 1; }}
    }}
}}
"""


class Counted:
    """One process of Weir without a master, which writes what it counted when it ends."""

    def __init__(self, options, what, engine, configure):
        self.text = os.path.join(options.base, f"{what}-{engine}.txt")
        self.directory, self.port = tempfile.mkdtemp(dir=options.base), bench.free_port()
        self.conf = "master_process off;" + configure(self.port, self.directory)

    def __enter__(self):
        os.environ.update(COUNTING, DOTNET_PGODataPath=self.text)
        try:
            self.server = bench.Server("weir", os.path.join(BUILT, "weir"), 0, self.directory,
                                       self.conf, self.port)
        finally:
            for name in (*COUNTING, "DOTNET_PGODataPath"):
                del os.environ[name]
        return self.server

    def __exit__(self, *_):
        self.server.process.send_signal(signal.SIGQUIT)
        try:
            self.server.process.wait(60)
        finally:
            self.server.stop()
        if not os.path.exists(self.text):
            raise bench.Refused(f"nothing was written at the end: {self.server.story()}")


def count_scenario(options, scenario, realistic, engine, origin):
    counted = Counted(options, f"{scenario.name}-{realistic}", engine, lambda port, directory: scenarios.configuration(
        scenario, realistic, port, directory, options.files, origin.port, engine, options.user, BUILT))
    script = os.path.join(counted.directory, "requests.lua")
    with open(script, "w") as f:
        f.write(scenarios.lua(scenario, realistic))
    with counted as server:
        result = bench.measure(server, script, options.seconds, options.cores, scenario.connections)
    print(f"{scenario.name:18} {'realistic' if realistic else 'bare':10} {engine:9} {result['requests']:8} requests")
    return counted.text


def count_tls(options, engine):
    counted = Counted(options, "tls", engine, lambda port, directory: TLS.format(
        user=options.user, dir=directory, engine=engine, port=port, files=options.files))
    with counted as server:
        url, seconds = f"https://127.0.0.1:{server.port}", str(options.seconds)
        for path in ("/f/0.html", "/b/0.bin"):
            for command in (["wrk", "-t1", "-c64", f"-d{seconds}s"], ["h2load", "-c16", "-m32", "-D", seconds]):
                subprocess.run(["taskset", "-c", "1", *command, url + path], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["taskset", "-c", "1", "wrk", "-t1", "-c16", f"-d{seconds}s", "-H", "Accept-Encoding: gzip",
                        url + "/s/0.html"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["openssl", "s_time", "-connect", f"127.0.0.1:{server.port}", "-time", seconds, "-new"],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print(f"{'tls and http/2':29} {engine}")
    return counted.text


def main():
    parser = argparse.ArgumentParser(prog="bench/profile")
    parser.add_argument("--seconds", type=int, default=2)
    options = parser.parse_args()
    options.nginx_binary, options.cores = shutil.which("nginx"), (0, 1)
    options.user = "user root;" if os.geteuid() == 0 else ""
    options.base = tempfile.mkdtemp(prefix="weir-profile-")
    os.chmod(options.base, 0o755)
    options.files = os.path.join(options.base, "files")
    bench.raise_file_limit()
    bench.prepare_files(options.files)
    bench.make_certificate(options.files)
    origin, texts = bench.start_origin(options, options.base, options.files), []
    try:
        for engine in ("io_uring", "epoll"):
            for scenario in scenarios.ALL:
                if scenario.name in SCENARIOS:
                    texts += [count_scenario(options, scenario, realistic, engine, origin)
                              for realistic in (False, True)]
            texts.append(count_tls(options, engine))
        subprocess.run([WRITER, PROFILE, BUILT, *texts], check=True)
    finally:
        origin.stop()
        shutil.rmtree(options.base, ignore_errors=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except bench.Refused as e:
        sys.exit(f"bench/profile: {e}")
