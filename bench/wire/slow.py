"""Clients that read slowly: each asks for a file and takes a kilobyte every tenth of a second, and begins again.
   slow.py PORT COUNT PATH        says `ready` when all have sent their request; runs until it is killed"""

import selectors
import socket
import sys
import time


def begin(port, path):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.settimeout(30)
    s.connect(("127.0.0.1", port))
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    s.setblocking(False)
    return s


def main():
    port, count, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    selector = selectors.DefaultSelector()
    for _ in range(count):
        selector.register(begin(port, path), selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in selector.select(0.1):
            try:
                if key.fileobj.recv(1024):
                    continue
            except BlockingIOError:
                continue
            except OSError:
                pass
            selector.unregister(key.fileobj)
            key.fileobj.close()
            selector.register(begin(port, path), selectors.EVENT_READ)
        time.sleep(0.1)


main()
