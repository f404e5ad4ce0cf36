"""Services of the machine that must never hear anything from a sandbox."""

import os
import selectors
import socket
import threading
from pathlib import Path
from typing import Self

METADATA = "canary-" + "0" * 16
"""What the metadata service gives away, where there is one (shelter.py)."""


class Listeners:
    """TCP, UDP, an abstract socket and one in the file system; ``heard`` is who knocked, and what was said."""

    def __init__(self, folder: Path) -> None:
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._run, name="listeners")
        self._folder = folder
        self.heard: list[bytes] = []
        self.places: dict[str, object] = {}

    def __enter__(self) -> Self:
        tcp = socket.create_server(("127.0.0.1", 0))
        tcp6 = socket.create_server(("::1", 0), family=socket.AF_INET6)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        abstract, named = (socket.socket(socket.AF_UNIX) for _ in range(2))
        name, path = f"service-{os.getpid()}", str(self._folder / "service.sock")
        abstract.bind("\0" + name)
        named.bind(path)
        for each in (abstract, named):
            each.listen()
        self.places = {
            "tcp": tcp.getsockname()[1],
            "tcp6": tcp6.getsockname()[1],
            "udp": udp.getsockname()[1],
            "abstract": name,
            "socket": path,
        }
        self._wake, woken = socket.socketpair()
        for each in (tcp, tcp6, udp, abstract, named, woken):
            self._selector.register(each, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._wake.close()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj.type == socket.SOCK_DGRAM:
                    self.heard.append(key.fileobj.recv(1000))
                elif key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    connection, _ = key.fileobj.accept()
                    with connection:
                        self.heard.append(b"a connection to " + str(key.fileobj.getsockname()).encode())
                else:
                    return
