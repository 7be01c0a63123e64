# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads links, addresses, routes and neighbours of the caller's namespace, by rtnetlink(7).

pyroute2 is used for changes only. Its dumps decode every attribute, through one event loop per handle: for 64 members
0.7 s of the 0.9 s of a run that changes nothing, against 0.05 s here. Its versions differ in the results, too.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import typing as t

NETLINK_ROUTE = 0
NLM_F_REQUEST, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x1, 0x300, 0x10
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLA_TYPE_MASK = 0x3FFF
AF_BRIDGE = 7
TRIES = 100

# Requests, and the fixed parts of their messages: linux/rtnetlink.h, if_link.h, if_addr.h, neighbour.h
IFF_UP = 1  # linux/if.h
RT_TABLE_MAIN = 254  # linux/rtnetlink.h
NUD_NOARP, NUD_PERMANENT = 0x40, 0x80  # linux/neighbour.h
NTF_PROXY = 0x08

RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH, RTM_GETRULE = 18, 22, 26, 30, 34
IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, change
IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
RTMSG = struct.Struct("=BBBBBBBBI")  # family, length of dst, of src, tos, table, protocol, scope, type, flags
RULEMSG = RTMSG  # family, length of dst, of src, tos, table, -, -, action, flags: linux/fib_rules.h
NDMSG = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type

# Attributes.
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO, IFLA_EXT_MASK = 1, 3, 4, 5, 10, 18, 29
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_BR_MCAST_SNOOPING = 23
IFLA_BRPORT_LEARNING, IFLA_BRPORT_UNICAST_FLOOD, IFLA_BRPORT_NEIGH_SUPPRESS = 8, 9, 32
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_MULTIPATH, RTA_TABLE, RTA_VIA = 1, 4, 5, 7, 9, 15, 18
FRA_DST, FRA_SRC, FRA_IIFNAME, FRA_PRIORITY, FRA_FWMARK, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE = 1, 2, 3, 6, 10, 14, 15
FRA_OIFNAME, FRA_L3MDEV, FRA_UID_RANGE, FRA_PROTOCOL, FRA_IP_PROTO, FRA_SPORT, FRA_DPORT = 17, 19, 20, 21, 22, 23, 24
NDA_DST, NDA_LLADDR, NDA_MASTER = 1, 2, 9

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_NO_STATISTICS = _ATTRIBUTE.pack(8, IFLA_EXT_MASK) + struct.pack("=I", 1 << 3)  # RTEXT_FILTER_SKIP_STATS

Attributes = dict[int, bytes]
Message = tuple[tuple[int, ...], Attributes]  # the fixed part, and the attributes


class Reader:
    """A netlink socket of the namespace in which it is created. A context manager."""

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc_info: t.Any) -> None:
        self._socket.close()

    def links(self) -> list[Message]:
        """(family, type, index, flags, change) and IFLA_… of every interface."""
        return self.dump(RTM_GETLINK, IFINFOMSG, IFINFOMSG.pack(0, 0, 0, 0, 0) + _NO_STATISTICS)

    def addresses(self) -> list[Message]:
        """(family, prefix length, flags, scope, index) and IFA_… of every address."""
        return self.dump(RTM_GETADDR, IFADDRMSG, IFADDRMSG.pack(0, 0, 0, 0, 0))

    def routes(self) -> list[Message]:
        """(family, length of dst, of src, tos, table, protocol, scope, type, flags) and RTA_… of every route."""
        return self.dump(RTM_GETROUTE, RTMSG, RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0))

    def rules(self) -> list[Message]:
        """(family, length of dst, of src, tos, table, -, -, action, flags) and FRA_… of every routing rule."""
        return self.dump(RTM_GETRULE, RULEMSG, RULEMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0))

    def neighbours(self, family: int = 0, flags: int = 0) -> list[Message]:
        """(family, index, state, flags, type) and NDA_… of every neighbour; AF_BRIDGE: of every FDB entry."""
        return self.dump(RTM_GETNEIGH, NDMSG, NDMSG.pack(family, 0, 0, flags, 0))

    def dump(self, request: int, fixed: struct.Struct, body: bytes) -> list[Message]:
        """All messages that answer a request: their fixed part, unpacked, and their attributes. Raises OSError."""
        for _try in range(TRIES):
            self._socket.send(_HEADER.pack(_HEADER.size + len(body), request, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body)
            found, consistent = self._answer(fixed)
            if consistent:
                return found
        raise OSError("the kernel's tables change faster than they can be read")

    def _answer(self, fixed: struct.Struct) -> tuple[list[Message], bool]:
        """The messages of a dump, and whether it is consistent: nothing changed while it was read."""
        found: list[Message] = []
        consistent = True
        while True:
            data = self._socket.recv(1 << 16)  # the kernel never sends more than 32 KiB at a time
            at = 0
            while at < len(data):
                length, kind, flags, _sequence, _port = _HEADER.unpack_from(data, at)
                consistent = consistent and not flags & NLM_F_DUMP_INTR
                start = at + _HEADER.size
                if kind in (NLMSG_ERROR, NLMSG_DONE):
                    (code,) = struct.unpack_from("=i", data, start)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return found, consistent
                found.append((fixed.unpack_from(data, start), attributes(data[start + fixed.size : at + length])))
                at += _aligned(length)


def attributes(data: bytes) -> Attributes:
    """Decode attributes: type -> value. Call it again for the value of a nested attribute."""
    result = {}
    at = 0
    while at < len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        result[kind & NLA_TYPE_MASK] = data[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)
    return result


def number(value: bytes | None) -> int | None:
    """Decode an integer of any size."""
    return None if value is None else int.from_bytes(value, sys.byteorder)


def text(value: bytes | None) -> str | None:
    """Decode a string that ends in a zero byte."""
    return None if value is None else value.rstrip(b"\0").decode(errors="surrogateescape")


def mac(value: bytes | None) -> str | None:
    """Decode a hardware address."""
    return value.hex(":") if value else None


def ip(value: bytes | None) -> str | None:
    """Decode an IPv4 or IPv6 address."""
    return None if value is None else socket.inet_ntop(socket.AF_INET if len(value) == 4 else socket.AF_INET6, value)


def _aligned(length: int) -> int:
    return (length + 3) & ~3
