# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hand-made packets, for source addresses that no client has; and pings."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import os
import socket
import struct

from .world import within

TCP, UDP = 6, 17
_numbers = itertools.count(1)  # of pings


def checksum(data: bytes) -> int:
    """The Internet checksum of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def ip_header(source: str, destination: str, protocol: int, length: int) -> bytes:
    """An IPv4 header with its checksum; C(length) is the whole packet's."""
    fields = (0x45, 0, length, 0, 0x4000, 64, protocol, 0, socket.inet_aton(source), socket.inet_aton(destination))
    header = struct.pack("!BBHHHBBH4s4s", *fields)
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:]


def frame(
    source: str, destination: str, protocol: int, ports: tuple[int, int], mac: str = "ff:ff:ff:ff:ff:ff"
) -> bytes:
    """An Ethernet frame with an empty datagram or the first segment of a TCP connection, IPv4 or IPv6."""
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    if protocol == TCP:
        payload = struct.pack("!HHIIBBHHH", *ports, 1, 0, 0x50, 2, 1024, 0, 0)
        at = 16
    else:
        payload = struct.pack("!HHHH", *ports, 8, 0)
        at = 6
    pseudo = ends + struct.pack("!II", len(payload), protocol)
    payload = payload[:at] + struct.pack("!H", checksum(pseudo + payload)) + payload[at + 2 :]
    if ":" in source:
        header = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + ends
        kind = 0x86DD
    else:
        header = ip_header(source, destination, protocol, 20 + len(payload))
        kind = 0x0800
    return (
        bytes.fromhex(mac.replace(":", "")) + b"\x02\x00\x00\x00\xfe\xfe" + struct.pack("!H", kind) + header + payload
    )


def icmp_error(router: str, about: bytes, mac: str) -> bytes:
    """A frame with 'fragmentation needed', as a router sends it to the sender of the IPv4 packet in a frame."""
    packet = about[14:]
    message = struct.pack("!BBHHH", 3, 4, 0, 0, 1300) + packet[:28]
    message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
    sender = str(ipaddress.IPv4Address(packet[12:16]))
    header = ip_header(router, sender, 1, 20 + len(message))
    return bytes.fromhex(mac.replace(":", "")) + about[6:14] + header + message


def flow_of(packet: bytes) -> tuple[str, int]:
    """Source address and source port of an IPv4 or IPv6 packet without options."""
    if packet[0] >> 4 == 4:
        return str(ipaddress.IPv4Address(packet[12:16])), struct.unpack("!H", packet[20:22])[0]
    return str(ipaddress.IPv6Address(packet[8:24])), struct.unpack("!H", packet[40:42])[0]


def packet_socket(netns: str, protocol: int) -> socket.socket:
    """All frames of a protocol on eth0."""
    with within(netns):
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
        made.bind(("eth0", protocol))
    return made


def ask_ping(netns: str, address: str, *, tries: int = 10, source: str = "") -> int:
    """Send a ping every second until one is answered; returns the number of its answers, after a short wait for more.

    The kernel answers pings of all namespaces from one socket per processor. While answers of a test wait for
    neighbours that do not exist (spoofed sources), it is full: for up to 3 s no ping is answered in any namespace.
    """
    six = ":" in address
    family, request, reply, protocol = (socket.AF_INET6, 128, 129, 58) if six else (socket.AF_INET, 8, 0, 1)
    ident = os.getpid() & 0xFFFF
    with within(netns), socket.socket(family, socket.SOCK_RAW, protocol) as sock:
        sock.bind((source, 0))
        for _try in range(tries):
            number = next(_numbers)
            check = checksum(struct.pack("!BBHHH", request, 0, 0, ident, number))  # the kernel computes that of IPv6
            sock.sendto(struct.pack("!BBHHH", request, 0, check, ident, number), (address, 0))
            sock.settimeout(1)
            answers = 0
            with contextlib.suppress(TimeoutError):
                while answers < 10:
                    data = sock.recv(2048)[0 if six else 20 :]
                    if data[:1] + data[4:8] == struct.pack("!BHH", reply, ident, number):
                        answers += 1
                        sock.settimeout(0.05)
            if answers:
                return answers
    return 0
