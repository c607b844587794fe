"""Runs inside a namespace for test_network.py: answers, or asks, on one socket.

serve ADDRESS PORT   each TCP client gets "PEER" (the address it came from) and is closed
connect ADDRESS PORT prints what the server said; exit 1 with the reason when there is none
dns SERVER NAME TYPE prints RCODE and the answers; exit 1 when nobody answers in time
ping ADDRESS         exit 0 when it answers
send ADDRESS SOURCE  sends a datagram to port 9999 from this source address
frame ADDRESS MAC    the same in a frame to this MAC
sink ADDRESS FILE    writes a line to FILE for each datagram that comes to port 9999
"""

# ruff: noqa: T201 - what it prints is its result
from __future__ import annotations

import socket
import struct
import subprocess
import sys
from pathlib import Path

TYPES = {"A": 1, "PTR": 12, "AAAA": 28}
RCODES = {0: "NOERROR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}


def serve(address: str, port: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, int(port)), family=family) as server:
        print("listening", flush=True)
        while True:
            client, peer = server.accept()
            client.sendall(peer[0].encode())
            client.close()


def connect(address: str, port: str) -> None:
    try:
        with socket.create_connection((address, int(port)), timeout=1.5) as client:
            print(client.recv(100).decode())
    except OSError as error:
        sys.exit(f"{type(error).__name__}: {error}")


def dns(server: str, name: str, kind: str) -> None:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    query = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0"
    query += struct.pack("!2H", TYPES[kind], 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1.5)
        client.connect((server, 53))
        client.send(query)
        try:
            answer = client.recv(1500)
        except OSError as error:
            sys.exit(f"{type(error).__name__}: {error}")
    _, flags, _, count = struct.unpack("!4H", answer[:8])
    position, found = len(query), []
    for _ in range(count):
        # Names in answers are pointers here: two bytes.
        kind_number, _, _, length = struct.unpack("!2HIH", answer[position + 2 : position + 12])
        data = answer[position + 12 : position + 12 + length]
        position += 12 + length
        found.append(socket.inet_ntoa(data) if kind_number == 1 else _name(data))
    print(RCODES.get(flags & 15, flags & 15), *found)


def _name(data: bytes) -> str:
    parts, position = [], 0
    while data[position] and data[position] < 64:
        parts.append(data[position + 1 : position + 1 + data[position]].decode())
        position += 1 + data[position]
    return ".".join(parts)


def ping(address: str) -> None:
    message = struct.pack("!BBHHH", 8, 0, 0, 7, 1)
    checksum = ~sum(struct.unpack("!4H", message)) & 0xFFFF
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.settimeout(1.5)
        raw.connect((address, 0))
        raw.send(struct.pack("!BBHHH", 8, 0, checksum, 7, 1))
        try:
            while raw.recv(100)[20] != 0:
                pass
        except OSError as error:
            sys.exit(f"{type(error).__name__}: {error}")


def frame(address: str, mac: str) -> None:
    """Past the router: the address with a MAC of one's own choice, as a hostile guest would."""
    subprocess.run(["ip", "neigh", "replace", address, "lladdr", mac, "dev", "eth0"], check=True)
    subprocess.run(["ip", "route", "replace", f"{address}/32", "dev", "eth0"], check=True)
    send(address, "")


def send(address: str, source: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((source, 0))
        client.sendto(b"x", (address, 9999))


def sink(address: str, file: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, Path(file).open("w") as log:
        server.bind((address, 9999))
        print("listening", flush=True)
        while True:
            _, peer = server.recvfrom(100)
            log.write(f"{peer[0]}\n")
            log.flush()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
