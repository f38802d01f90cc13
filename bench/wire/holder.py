"""Holds idle keep-alive connections: asks once on each, then once more on every line read from standard input.
   holder.py PORT COUNT SOURCE [PATH ENDING]        says `held N` and after every line `again N`"""

import socket
import struct
import sys

PATH = sys.argv[4] if len(sys.argv) > 4 else "/"
ENDING = sys.argv[5].encode() if len(sys.argv) > 5 else b"ok"
REQUEST = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def ask(s):
    s.sendall(REQUEST)
    data = s.recv(4096)
    while data and not data.endswith(ENDING):
        more = s.recv(4096)
        if not more:
            return False
        data += more
    return data.startswith(b"HTTP/1.1 200")


def main():
    port, count, source = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    clients = []
    for _ in range(count):
        s = socket.socket()
        s.settimeout(60)
        # The port is chosen when it connects, so that every source may use all of them.
        s.setsockopt(socket.IPPROTO_IP, 24, 1)
        # Reset when this ends: 150,000 closed ones would all leave TIME_WAIT at once, a minute later, in another run.
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.bind((source, 0))
        s.connect(("127.0.0.1", port))
        if not ask(s):
            raise SystemExit("an answer that is none")
        clients.append(s)
    print(f"held {len(clients)}", flush=True)
    for _ in sys.stdin:
        print(f"again {sum(ask(s) for s in clients)}", flush=True)


main()
