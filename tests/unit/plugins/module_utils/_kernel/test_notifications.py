# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import struct
import sys

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._kernel import rtnetlink
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.notifications import (
    Interest,
    filter_program,
    inotify_events,
    inside_reasons,
    route_reasons,
)

OURS, OTHER = 7, 8
INTEREST = Interest(
    names=frozenset({"br-vpn", "192.0.2.10"}),
    indexes=frozenset({OURS}),
    neighbours=frozenset({OURS}),
    protocols=frozenset({4, 196}),
)


def message(kind: int, body: bytes, **attributes: bytes) -> bytes:
    """A message; attributes are named _NUMBER."""
    for name, value in attributes.items():
        body += struct.pack("=HH", 4 + len(value), int(name[1:])) + value + b"\0" * (-len(value) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def link(kind: int, index: int, name: str, master: int = 0) -> bytes:
    body = rtnetlink.IFINFOMSG.pack(0, 1, index, 1, 0)
    return message(kind, body, _3=name.encode() + b"\0", _10=struct.pack("=I", master))


def address(index: int) -> bytes:
    return message(21, rtnetlink.IFADDRMSG.pack(2, 24, 0, 0, index))


def neighbour(index: int, family: int = 2, state: int = 0x20, dst: str = "192.0.2.10") -> bytes:
    return message(29, rtnetlink.NDMSG.pack(family, index, state, 0, 0), _1=socket.inet_aton(dst))


def route(protocol: int, index: int) -> bytes:
    body = rtnetlink.RTMSG.pack(2, 24, 0, 0, 254, protocol, 0, 1, 0)
    return message(25, body, _4=struct.pack("=I", index))


def rule(protocol: int) -> bytes:
    return message(33, rtnetlink.RTMSG.pack(2, 0, 0, 0, 254, 0, 0, 1, 0), _21=bytes([protocol]))


def netconf(index: int) -> bytes:
    return message(80, b"\2\0\0\0", _1=struct.pack("=i", index))


@pytest.mark.parametrize(
    ("data", "reasons"),
    [
        (link(17, OURS, "eth0"), ["link deleted"]),
        (link(16, 99, "br-vpn"), ["link changed"]),  # a new one, whose index is not known yet
        (link(16, 99, "other", master=OURS), ["link changed"]),  # a port of our bridge
        (link(16, OTHER, "veth0"), []),
        (address(OURS), ["address deleted"]),
        (address(OTHER), []),
        (neighbour(OURS), ["neighbour deleted"]),
        (neighbour(OURS, dst="192.0.2.77"), []),  # an ordinary neighbour
        (neighbour(OTHER), []),
        (neighbour(OURS, family=7, state=0x40), ["neighbour deleted"]),  # a static FDB entry
        (neighbour(OURS, family=7, state=0x02), []),  # a learned one
        (route(196, OURS), ["route deleted"]),
        (route(196, OTHER), []),
        (route(12, OURS), []),
        (rule(196), ["rule deleted"]),
        (rule(0), []),
        (netconf(OURS), ["forwarding or proxy ARP of an interface changed"]),
        (netconf(-1), ["forwarding or proxy ARP of an interface changed"]),
        (netconf(OTHER), []),
        (link(16, OTHER, "veth0") + address(OURS), ["address deleted"]),
        (b"\1\2\3", []),
        (struct.pack("=IHHII", 3, 16, 0, 0, 0) + bytes(16), []),
    ],
)
def test_only_messages_about_our_resources_are_reasons(data: bytes, reasons: list[str]) -> None:
    assert list(route_reasons(data, INTEREST)) == reasons


def test_messages_of_members_are_reasons_whatever_they_are_about() -> None:
    assert list(inside_reasons(address(2), "vpn1")) == ["address in vpn1 deleted"]
    assert list(inside_reasons(neighbour(2), "vpn1")) == []


def test_events_of_a_directory() -> None:
    event = struct.pack("=iIII", 1, 0x200, 0, 16) + b"vpn1".ljust(16, b"\0")
    assert list(inotify_events(event * 2)) == [(0x200, "vpn1")] * 2


def accepts(program: list[tuple[int, int, int, int]], data: bytes) -> bool:
    """Run the filter as the kernel does."""
    loads = {0x28: ">H", 0x20: ">I", 0x30: ">B"}
    at = accumulator = 0
    while True:
        code, true, false, value = program[at]
        at += 1
        if code in loads:
            (accumulator,) = struct.unpack_from(loads[code], data, value)
        elif code == 0x15:
            at += true if accumulator == value else false
        else:
            return bool(value)


@pytest.mark.skipif(sys.byteorder != "little", reason="numbers are swapped")
@pytest.mark.parametrize("others", [set(), {3, 300, 70000}])
def test_the_filter_drops_neighbours_of_other_interfaces_and_routes_of_other_protocols(others: set[int]) -> None:
    program = filter_program({OURS, *others}, {4, 196})
    accepted = (neighbour(OURS), route(4, OTHER), route(196, OURS), link(16, OTHER, "x"), address(OTHER), rule(0))
    for data in (*accepted, netconf(OTHER), *(neighbour(index) for index in others)):
        assert accepts(program, data)
    for data in (neighbour(OTHER), route(12, OURS), route(2, OURS)):
        assert not accepts(program, data)


def test_a_filter_with_too_many_interfaces_accepts_everything() -> None:
    assert accepts(filter_program(set(range(300)), {4}), neighbour(100000))
