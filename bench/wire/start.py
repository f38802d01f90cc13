"""Start to first answer, and memory of idle workers, Weir beside nginx, alternating; medians.

bench/start [--weir-binary FILE]: writes bench/results/start.md and start.json.
"""
import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
RESULTS = os.path.join(ROOT, "bench", "results")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def configuration(directory, port, workers, servers):
    blocks = "".join(
        f"server {{ listen 127.0.0.1:{port}; server_name s{i}.example; location / {{ return 200 {i}; }} }}\n"
        for i in range(servers))
    path = os.path.join(directory, "conf")
    temp = "".join(f"{n}_temp_path {directory}/{n}; " for n in ("client_body", "proxy", "fastcgi"))
    with open(path, "w") as f:
        f.write(f"daemon off; worker_processes {workers}; user root; pid {directory}/pid; error_log {directory}/err;\n"
                f"events {{ worker_connections 512; }}\nhttp {{ access_log off; {temp}\n"
                f"server_names_hash_max_size 8192; {blocks} }}\n")
    return path


def children(pid):
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as f:
                    if int(f.read().rsplit(")", 1)[1].split()[1]) == pid:
                        found.append(int(name))
            except OSError:
                pass
    return found


def memory(pid, key):
    path = "smaps_rollup" if key == "Pss:" else "status"
    with open(f"/proc/{pid}/{path}") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(key)) / 1024


def start(binary, workers, servers):
    """Milliseconds to the first answer; the process, its directory."""
    directory = tempfile.mkdtemp(prefix="weir-start-")
    port = free_port()
    conf = configuration(directory, port, workers, servers)
    began = time.perf_counter()
    process = subprocess.Popen([binary, "-p", directory, "-c", conf], stderr=subprocess.DEVNULL)
    while True:
        if process.poll() is not None:
            raise SystemExit(f"{binary} ended at start: {open(directory + '/err').read()}")
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as s:
                s.sendall(b"GET / HTTP/1.0\r\nHost: s0.example\r\n\r\n")
                if s.recv(64).startswith(b"HTTP/1.1 200"):
                    break
        except ConnectionError:
            time.sleep(0.0005)
    return (time.perf_counter() - began) * 1000, process, directory


def stop(process, directory):
    process.terminate()
    process.wait(10)
    shutil.rmtree(directory, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--weir-binary", default=os.path.join(ROOT, "artifacts", "bin", "weir"))
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    binaries = {"weir": options.weir_binary, "nginx": shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")}
    rows = {}
    for title, workers, servers in (("start, 2 workers, 1 server", 2, 1), ("start, 2 workers, 1,000 servers", 2, 1000)):
        times = {name: [] for name in binaries}
        for _ in range(options.rounds):
            for name, binary in binaries.items():
                took, process, directory = start(binary, workers, servers)
                times[name].append(took)
                stop(process, directory)
        rows[title + ", ms"] = {name: statistics.median(t) for name, t in times.items()}
    for title, workers, servers, key in (("RSS of an idle worker, 1 server, MiB", 1, 1, "VmRSS:"),
                                         ("PSS of 8 workers, 1,000 servers, MiB", 8, 1000, "Pss:")):
        rows[title] = {}
        for name, binary in binaries.items():
            _, process, directory = start(binary, workers, servers)
            time.sleep(1)
            workers_now = children(process.pid)
            rows[title][name] = sum(memory(pid, key) for pid in workers_now)
            stop(process, directory)
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    with open("/proc/cpuinfo") as f:
        cpu = next(line.split(":")[1].strip() for line in f if line.startswith("model name"))
    facts = {"commit": commit.stdout.strip(), "cpu": cpu, "kernel": platform.release(),
             "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "rounds": options.rounds, "rows": rows}
    os.makedirs(RESULTS, exist_ok=True)
    with open(os.path.join(RESULTS, "start.json"), "w") as f:
        json.dump(facts, f, indent=2)
        f.write("\n")
    lines = ["# Start and memory", "",
             f"Commit {facts['commit']}, {cpu}, Linux {facts['kernel']}, {facts['date']}; "
             f"medians of {options.rounds} alternating rounds.", "",
             "| | Weir | nginx |", "|---|---|---|"]
    lines += [f"| {title} | {row['weir']:.1f} | {row['nginx']:.1f} |" for title, row in rows.items()]
    text = "\n".join(lines) + "\n"
    with open(os.path.join(RESULTS, "start.md"), "w") as f:
        f.write(text)
    print(text)


main()
