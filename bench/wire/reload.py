"""Reloads under keep-alive load: HUP every 100 ms for 10 s between two configurations of 1,000 servers; what the
workers' longest turn was, and whether a connection or an answer was lost. Writes bench/results/reload.md. With
--realtime the server is scheduled before all else (SCHED_RR), for a machine on which other work runs."""
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import platform

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
REALTIME = "--realtime" in sys.argv
sys.argv = [a for a in sys.argv if a != "--realtime"]
BINARY = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "artifacts", "bin", "weir")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def write(directory, port, mark):
    blocks = "".join(
        f'server {{ listen 127.0.0.1:{port}; server_name s{i}.example; location / {{ return 200 "{mark}-{i}"; }} '
        f"location = /status {{ weir_status json; }} }}\n" for i in range(1000))
    with open(os.path.join(directory, "conf"), "w") as f:
        f.write(f"daemon off; worker_processes 2; user root; pid {directory}/pid; error_log {directory}/err notice;\n"
                f"events {{ }}\nhttp {{ access_log off; keepalive_requests 100000000; {blocks} }}\n")


class Client(threading.Thread):
    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.answers, self.lost, self.torn, self.stop, self.seen = port, 0, 0, 0, False, None

    def ask(self, path="/"):
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: s0.example\r\n\r\n".encode())
        data = b""
        while b"\r\n\r\n" not in data:
            got = self.socket.recv(65536)
            if not got:
                raise ConnectionError("closed")
            data += got
        head, body = data.split(b"\r\n\r\n", 1)
        length = next(int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length"))
        while len(body) < length:
            body += self.socket.recv(65536)
        return body

    def run(self):
        self.socket = socket.create_connection(("127.0.0.1", self.port))
        while not self.stop:
            try:
                self.seen = self.ask()
                self.answers += 1
                self.torn += self.seen not in (b"red-0", b"blue-0")
            except OSError:
                self.lost += 1
                return


def main():
    directory, port = tempfile.mkdtemp(prefix="weir-reload-"), free_port()
    write(directory, port, "red")
    first = ["chrt", "-r", "5"] if REALTIME else []
    server = subprocess.Popen([*first, BINARY, "-p", directory, "-c", directory + "/conf"], stderr=subprocess.DEVNULL)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionError:
            time.sleep(0.01)
    clients = [Client(port) for _ in range(8)]
    for client in clients:
        client.start()
    time.sleep(0.5)
    for i in range(100):
        write(directory, port, "blue" if i % 2 == 0 else "red")
        server.send_signal(signal.SIGHUP)
        time.sleep(0.1)
    time.sleep(1.5)
    for client in clients:
        client.stop = True
    for client in clients:
        client.join(5)
    turns = {}
    for client in clients:
        worker = json.loads(client.ask("/status"))["worker"]
        turns[worker["pid"]] = worker["longest_turn_us"] / 1000
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    server.send_signal(signal.SIGQUIT)
    server.wait(10)
    text = (f"# Reloads under load\n\nHUP every 100 ms for 10 s, two configurations of 1,000 servers, 2 workers, "
            f"8 keep-alive clients{', the server scheduled in real time' if REALTIME else ''}. "
            f"Commit {commit.stdout.strip()}, Linux {platform.release()}.\n\n| | |\n|---|---|\n"
            f"| answers | {sum(c.answers for c in clients)} |\n"
            f"| torn or foreign answers | {sum(c.torn for c in clients)} |\n"
            f"| connections lost | {sum(c.lost for c in clients)} |\n| last answer after the last reload | "
            f"{', '.join(sorted({c.seen.decode() for c in clients}))} |\n"
            f"| longest turn of a loop, ms, by worker | {', '.join(f'{t:.0f}' for t in turns.values())} |\n")
    with open(os.path.join(ROOT, "bench", "results", "reload.md"), "w") as f:
        f.write(text)
    print(text)


main()
