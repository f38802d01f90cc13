"""Clients that read slowly: each asks for a file and takes a kilobyte every tenth of a second, and begins again. They
take turns, a few in each millisecond: all at once they would hold up the fast client, which shares their core.
   slow.py PORT COUNT PATH        says `ready` when all have sent their request; runs until it is killed"""

import socket
import sys
import time

PERIOD = 0.1
TICK = 0.001


def begin(port, path):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.settimeout(30)
    s.connect(("127.0.0.1", port))
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    s.setblocking(False)
    return s


def turn(s, port, path):
    try:
        if s.recv(1024):
            return s
    except BlockingIOError:
        return s
    except OSError:
        pass
    s.close()
    return begin(port, path)


def main():
    port, count, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    clients = [begin(port, path) for _ in range(count)]
    print("ready", flush=True)
    began, turns = time.monotonic(), 0
    while True:
        due = min(int((time.monotonic() - began) / PERIOD * count), turns + count)
        while turns < due:
            clients[turns % count] = turn(clients[turns % count], port, path)
            turns += 1
        time.sleep(TICK)


main()
