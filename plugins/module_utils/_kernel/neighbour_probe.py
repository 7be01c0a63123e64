# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks the neighbours on a LAN whether one of them has an address, by ARP and neighbour discovery. Changes nothing.

The kernel is not asked to resolve the address, since it would answer from its own tables and proxy entries.
"""

from __future__ import annotations

import contextlib
import ipaddress
import select
import socket
import struct
import time
import typing as t

ETH_P_ARP, ETH_P_IPV6 = 0x0806, 0x86DD
BROADCAST = b"\xff" * 6
OUTGOING = 4  # PACKET_OUTGOING of linux/if_packet.h
EVERY = 0.3  # seconds between requests
_ARP = struct.Struct("!HHBBH6s4s6s4s")
NEXT_HEADER_ICMPV6, SOLICITATION, ADVERTISEMENT = 58, 135, 136

Packed = t.Callable[[], t.Iterator[bytes]]


def holders(address: str, dev: str, mac: str, sources: t.Iterable[str], seconds: float = 1.0) -> set[str]:
    """The MAC addresses of neighbours that have the address; empty as well if the NIC is down. Raises OSError.

    dev, mac: the NIC to ask on. sources: addresses of this host there, because some hosts answer only to such.
    """
    wanted = ipaddress.ip_address(address)
    own = bytes.fromhex(mac.replace(":", ""))
    # Without a source, as a probe before an address is used; and with one, which proxies answer to.
    froms = [None, *(one for one in map(ipaddress.ip_address, sources) if one.version == wanted.version)][:3]
    if wanted.version == 4:
        protocol, requests, answer = ETH_P_ARP, [_arp_request(wanted.packed, own, one) for one in froms], _arp_answer
    else:
        protocol, requests, answer = ETH_P_IPV6, [_solicitation(wanted, own, one) for one in froms], _advertisement
    found = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.htons(protocol)) as sock:
        sock.bind((dev, protocol))
        sock.setblocking(False)
        end = time.monotonic() + seconds
        due = 0.0
        while (now := time.monotonic()) < end:
            if now >= due:
                due = now + EVERY
                for request in requests:
                    with contextlib.suppress(OSError):  # the NIC is down
                        sock.send(request)
            ready, _w, _x = select.select([sock], [], [], max(0.0, min(due, end) - now))
            if not ready:
                continue
            with contextlib.suppress(BlockingIOError):
                frame, origin = sock.recvfrom(2048)
                sender = answer(frame, wanted.packed) if origin[2] != OUTGOING else None
                if sender and sender != own:
                    found.add(sender.hex(":"))
    return found


def _arp_request(address: bytes, own: bytes, source: t.Any) -> bytes:
    sender = source.packed if source else b"\0" * 4
    return (
        BROADCAST + own + struct.pack("!H", ETH_P_ARP) + _ARP.pack(1, 0x0800, 6, 4, 1, own, sender, b"\0" * 6, address)
    )


def _arp_answer(frame: bytes, address: bytes) -> bytes | None:
    """The sender of an ARP message that claims the address."""
    if len(frame) < 14 + _ARP.size:
        return None
    hardware, protocol, hlen, plen, _operation, mac, ip, _mac, _ip = _ARP.unpack_from(frame, 14)
    return mac if (hardware, protocol, hlen, plen, ip) == (1, 0x0800, 6, 4, address) else None


def _solicitation(wanted: t.Any, own: bytes, source: t.Any) -> bytes:
    group = b"\xff\x02" + b"\0" * 9 + b"\x01\xff" + wanted.packed[-3:]
    sender = source.packed if source else b"\0" * 16
    option = b"\x01\x01" + own if source else b""  # the source link-layer address
    body = struct.pack("!BBHI", SOLICITATION, 0, 0, 0) + wanted.packed + option
    body = body[:2] + struct.pack("!H", _checksum(sender, group, body)) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), NEXT_HEADER_ICMPV6, 255) + sender + group
    return b"\x33\x33" + group[-4:] + own + struct.pack("!H", ETH_P_IPV6) + header + body


def _checksum(source: bytes, destination: bytes, body: bytes) -> int:
    data = source + destination + struct.pack("!II", len(body), NEXT_HEADER_ICMPV6) + body
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _advertisement(frame: bytes, address: bytes) -> bytes | None:
    """The sender of a neighbour advertisement for the address: the target link-layer address, or that of the frame."""
    body = frame[54:]
    if len(body) < 24 or frame[20] != NEXT_HEADER_ICMPV6 or body[0] != ADVERTISEMENT or body[8:24] != address:
        return None
    options = body[24:]
    while len(options) >= 8 and options[1]:
        if options[0] == 2:
            return options[2:8]
        options = options[options[1] * 8 :]
    return frame[6:12]
