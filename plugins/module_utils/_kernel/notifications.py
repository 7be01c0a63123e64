# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kernel's notifications in the caller's namespace: rtnetlink, nftables, and the names of network namespaces.

A Listener returns reasons to look, as sentences for the journal. Only messages about resources of Interest are reasons.
The kernel announces a link or an address, but not the routes and proxy entries that it removes along with them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import socket
import struct
import sys
import time
import typing as t
from dataclasses import dataclass, field

from . import namespaces, rtnetlink

# linux/rtnetlink.h, linux/netfilter/nfnetlink.h: groups to join
LINK, NEIGH, TC, IPV4_ADDRESS, IPV4_ROUTE, IPV4_RULE = 1, 3, 4, 5, 7, 8
IPV6_ADDRESS, IPV6_ROUTE, IPV6_RULE, IPV4_NETCONF, IPV6_NETCONF = 9, 11, 19, 24, 25
ROUTE_GROUPS = (
    *(LINK, NEIGH, TC, IPV4_ADDRESS, IPV4_ROUTE, IPV4_RULE),
    *(IPV6_ADDRESS, IPV6_ROUTE, IPV6_RULE, IPV4_NETCONF, IPV6_NETCONF),
)
NFNLGRP_NFTABLES, NETLINK_NETFILTER = 7, 12
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NETLINK_LISTEN_ALL_NSID = 270, 1, 8
SO_RCVBUFFORCE, SO_ATTACH_FILTER = 33, 26
RECEIVE_BUFFER = 1 << 20

# Message types, by which a message is named; RTM_NEW… is even, RTM_DEL… the next number.
ADDRESS, ROUTE, NEIGHBOUR, RULE, QDISC, NETCONF = 20, 24, 28, 32, 36, 80
KINDS = {16: "link", ADDRESS: "address", QDISC: "qdisc"}
INSIDE = {
    16: "link",
    ADDRESS: "address",
    ROUTE: "route",
    RULE: "rule",
    QDISC: "qdisc",
    NETCONF: "forwarding or rp_filter",
}
ANNOUNCED_SYSCTLS = ("forwarding", "rp_filter", "proxy_arp", "proxy_ndp", "ip_forward")  # by NETCONF
OVERRUN = "more messages than the buffer holds"
FRA_PROTOCOL, NETCONFA_IFINDEX = 21, 1
IN_CREATE, IN_DELETE, IN_MOVE, IN_Q_OVERFLOW = 0x100, 0x200, 0xC0, 0x4000
IN_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_EVENT = struct.Struct("=iIII")  # struct inotify_event: descriptor, mask, cookie, length of the name
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Interest:
    """The resources whose changes are announced.

    names: of links and namespaces, and addresses of neighbours. indexes: of links; neighbours: of those with neighbours
    or FDB entries. protocols: of routes and rules. tables: a text in the name of each nftables table. inside: other
    namespaces, by the number that they have here.
    """

    names: frozenset[str] = frozenset()
    indexes: frozenset[int] = frozenset()
    neighbours: frozenset[int] = frozenset()
    protocols: frozenset[int] = frozenset()
    tables: bytes = b"\0"
    inside: t.Mapping[int, str] = field(default_factory=dict)


class Listener:
    """Sockets of the namespace in which it is created. A context manager.

    They receive messages of other namespaces, too, as far as these have a number here (ip-netns(8), nsid): so no socket
    has to be open inside, which would keep a deleted namespace alive.
    """

    def __init__(self, wake: int) -> None:
        """wake: a descriptor that ends a wait when it can be read."""
        self._route = _joined(rtnetlink.NETLINK_ROUTE, ROUTE_GROUPS)
        self._nftables: socket.socket | None
        try:
            self._nftables = _joined(NETLINK_NETFILTER, (NFNLGRP_NFTABLES,))
        except OSError:  # a kernel without nf_tables
            self._nftables = None
        self._inotify = _libc.inotify_init1(IN_NONBLOCK_CLOEXEC)
        self._watched = False
        self._poll = select.poll()
        self._poll.register(wake, select.POLLIN)
        for one in (self._route, self._nftables, self._inotify):
            if one is not None:
                self._poll.register(one, select.POLLIN)
        self._interest = Interest()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *exc_info: t.Any) -> None:
        self._route.close()
        if self._nftables is not None:
            self._nftables.close()
        os.close(self._inotify)

    def expect(self, interest: Interest) -> None:
        """Announce changes of these resources from now on. Neighbours and routes of others do not wake this process."""
        if not self._watched:  # /run/netns does not exist before the first namespace
            mask = IN_CREATE | IN_DELETE | IN_MOVE
            self._watched = _libc.inotify_add_watch(self._inotify, os.fsencode(namespaces.DIRECTORY), mask) >= 0
        if (interest.neighbours, interest.protocols) != (self._interest.neighbours, self._interest.protocols):
            _attach(self._route, filter_program(interest.neighbours, interest.protocols))
        self._interest = interest

    def inside(self, netnses: t.Iterable[str]) -> dict[int, str]:
        """Those of the other namespaces whose messages arrive here, by their number."""
        if not self._route.getsockopt(SOL_NETLINK, NETLINK_LISTEN_ALL_NSID):
            return {}
        with rtnetlink.Reader() as reader:
            numbers = {netns: _number_of(reader, netns) for netns in netnses}
        return {number: netns for netns, number in numbers.items() if number >= 0}

    def wait(self, seconds: float) -> bool:
        """Wait for a message; False if none has arrived."""
        return bool(self._poll.poll(max(0.0, seconds) * 1000))

    def collect(self, quiet: float) -> list[str]:
        """Read what has arrived until C(quiet) seconds have passed: the reasons to look, each once."""
        deadline = time.monotonic() + quiet
        found: dict[str, None] = {}
        while True:
            found.update(dict.fromkeys(self._read()))
            left = deadline - time.monotonic()
            if left <= 0 or not found:  # messages about others are read only, without a wait
                return list(found)
            time.sleep(left)

    def _read(self) -> t.Iterator[str]:
        interest = self._interest
        for data, number in _datagrams(self._route):
            if data is None:
                yield OVERRUN
            elif number is None:
                yield from route_reasons(data, interest)
            elif number in interest.inside:
                yield from inside_reasons(data, interest.inside[number])
        if self._nftables is not None:
            for data, number in _datagrams(self._nftables):
                if data is None:
                    yield OVERRUN
                elif interest.tables in data and (number is None or number in interest.inside):
                    yield f"nftables rules{'' if number is None else f' in {interest.inside[number]}'}"
        try:
            events = os.read(self._inotify, 65536)
        except BlockingIOError:
            return
        for mask, name in inotify_events(events):
            if name in self._interest.names:
                yield f"namespace {name} {'created' if mask & IN_CREATE else 'deleted'}"
            elif mask & IN_Q_OVERFLOW:
                yield "more events than the queue holds"


def route_reasons(data: bytes, interest: Interest) -> t.Iterator[str]:
    """Datagram of rtnetlink -> reasons to look. Pure."""
    at = 0
    while at + _HEADER.size + 8 <= len(data):
        length, kind, _flags, _sequence, _port = _HEADER.unpack_from(data, at)
        if length < _HEADER.size + 8:
            return
        reason = _reason(kind, data[at + _HEADER.size : at + length], interest)
        if reason:
            yield reason
        at += (length + 3) & ~3


def inside_reasons(data: bytes, netns: str) -> t.Iterator[str]:
    """Datagram of rtnetlink about another namespace -> reasons to look. Pure."""
    (_length, kind, *_rest) = _HEADER.unpack_from(data)
    if (base := kind & ~1) in INSIDE:
        yield f"{INSIDE[base]} in {netns} {'deleted' if kind & 1 else 'changed'}"


def _reason(kind: int, body: bytes, interest: Interest) -> str:
    """The reason in one message; "" if it is about another resource."""
    base, verb = kind & ~1, "deleted" if kind & 1 else "changed"
    if base == NEIGHBOUR:
        return f"neighbour {verb}" if _is_our_neighbour(body, interest) else ""
    if base in (16, ADDRESS, QDISC):
        if struct.unpack_from("=i", body, 4)[0] in interest.indexes:
            return f"{KINDS[base]} {verb}"
        if base == 16 and body[0] != rtnetlink.AF_BRIDGE:
            attributes = rtnetlink.attributes(body[rtnetlink.IFINFOMSG.size :])
            name = rtnetlink.text(attributes.get(rtnetlink.IFLA_IFNAME))
            master = rtnetlink.number(attributes.get(rtnetlink.IFLA_MASTER))
            if name in interest.names or master in interest.indexes:
                return f"link {verb}"
    if base == ROUTE and len(body) >= rtnetlink.RTMSG.size and body[5] in interest.protocols:
        attributes = rtnetlink.attributes(body[rtnetlink.RTMSG.size :])
        index = rtnetlink.number(attributes.get(rtnetlink.RTA_OIF))
        if index is None or index in interest.indexes:  # a route over several interfaces has none
            return f"route {verb}"
    if base == RULE and len(body) >= rtnetlink.RTMSG.size:
        attributes = rtnetlink.attributes(body[rtnetlink.RTMSG.size :])
        if rtnetlink.number(attributes.get(FRA_PROTOCOL)) in interest.protocols:
            return f"rule {verb}"
    if base == NETCONF:
        index = rtnetlink.number(rtnetlink.attributes(body[4:]).get(NETCONFA_IFINDEX)) or 0
        # -1 is net.ipv4.conf.all, which may have switched all others
        if index in interest.indexes or index == 0xFFFFFFFF:
            return "forwarding or proxy ARP of an interface changed"
    return ""


def _is_our_neighbour(body: bytes, interest: Interest) -> bool:
    """Whether it is a static FDB entry, or about an address of ours: a deleted neighbour has no state left."""
    family, index, state, _flags, _type = rtnetlink.NDMSG.unpack_from(body)
    if index not in interest.neighbours:
        return False
    if family == rtnetlink.AF_BRIDGE:
        return bool(state & (rtnetlink.NUD_NOARP | rtnetlink.NUD_PERMANENT))
    attributes = rtnetlink.attributes(body[rtnetlink.NDMSG.size :])
    return rtnetlink.ip(attributes.get(rtnetlink.NDA_DST)) in interest.names


def inotify_events(data: bytes) -> t.Iterator[tuple[int, str]]:
    """Mask and name of each event. Pure."""
    at = 0
    while at + _EVENT.size <= len(data):
        _descriptor, mask, _cookie, length = _EVENT.unpack_from(data, at)
        at += _EVENT.size
        yield mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))
        at += length


# --- a filter in the kernel: linux/filter.h --------------------------------------------------------------------------

_LOAD_HALF, _LOAD_WORD, _LOAD_BYTE, _IF_EQUAL, _RETURN = 0x28, 0x20, 0x30, 0x15, 0x06
_ALL, _NOTHING = 0xFFFFFFFF, 0
MOST_JUMPS = 250  # a jump has eight bits


def filter_program(indexes: t.Collection[int], protocols: t.Collection[int]) -> list[tuple[int, int, int, int]]:
    """Instructions that drop neighbours of other interfaces, and routes of other protocols. Pure.

    Both are frequent where a host has many neighbours, or runs a routing daemon.
    """
    if len(indexes) + len(protocols) > MOST_JUMPS - 10:  # too far to jump: receive all
        return [(_RETURN, 0, 0, _ALL)]
    chosen = sorted(_swapped(index, "I") for index in indexes)
    routes = sorted(protocols)
    at_neighbours, at_routes = 5, 5 + 1 + len(chosen) + 1
    accept = at_routes + 1 + len(routes) + 1
    program = [(_LOAD_HALF, 0, 0, 4)]  # the type of the message
    for kind, target in ((28, at_neighbours), (29, at_neighbours), (24, at_routes), (25, at_routes)):
        # after the last comparison: accept
        miss = 0 if kind != 25 else accept - len(program) - 1
        program.append((_IF_EQUAL, target - len(program) - 1, miss, _swapped(kind, "H")))
    program.append((_LOAD_WORD, 0, 0, _HEADER.size + 4))
    program += [(_IF_EQUAL, accept - at, 0, value) for at, value in enumerate(chosen, at_neighbours + 2)]
    program.append((_RETURN, 0, 0, _NOTHING))
    program.append((_LOAD_BYTE, 0, 0, _HEADER.size + 5))
    program += [(_IF_EQUAL, accept - at, 0, value) for at, value in enumerate(routes, at_routes + 2)]
    return [*program, (_RETURN, 0, 0, _NOTHING), (_RETURN, 0, 0, _ALL)]


def _swapped(value: int, size: str) -> int:
    """The filter loads numbers in network byte order; those of netlink have the order of the host."""
    return int(struct.unpack(f">{size}", struct.pack(f"={size}", value))[0])


def _attach(sock: socket.socket, program: t.Sequence[tuple[int, int, int, int]]) -> None:
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(buffer)))


def _number_of(reader: rtnetlink.Reader, netns: str) -> int:
    """The number of another namespace in this one; -1 if it has none. It has one as soon as a veth pair leads there."""
    try:
        with open(namespaces.path(netns), "rb") as file:
            return reader.nsid(file.fileno())
    except OSError:  # it is being recreated
        return -1


def _joined(protocol: int, groups: t.Iterable[int]) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    sock.bind((0, 0))  # a socket without an address receives nothing
    with contextlib.suppress(PermissionError):  # without CAP_NET_BROADCAST, other namespaces are not announced
        sock.setsockopt(SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, 1)
    for group in groups:
        sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
    return sock


def _datagrams(sock: socket.socket) -> t.Iterator[tuple[bytes | None, int | None]]:
    """The datagrams that have arrived, each with the number of another namespace; None where some were dropped."""
    while True:
        try:
            data, ancillary, _flags, _sender = sock.recvmsg(1 << 16, 64)
        except BlockingIOError:
            return
        except OSError as exc:
            if exc.errno != errno.ENOBUFS:
                raise
            yield None, None
            continue
        yield data, next((int.from_bytes(value[:4], sys.byteorder) for _level, _type, value in ancillary), None)
