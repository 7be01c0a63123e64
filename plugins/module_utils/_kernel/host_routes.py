# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All routes and routing rules of the caller's namespace, of every table and every program: rtnetlink -> plain data."""

from __future__ import annotations

import socket
import struct
import typing as t
from dataclasses import dataclass

from . import rtnetlink

KINDS = {1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast"} | {
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
    9: "throw",
}
MAIN, LOCAL = 254, 255
RTPROT_KERNEL = 2
TO_TABLE = 1  # the action of a rule: look a table up; the others are numbers of KINDS
INVERT = 2  # a flag of a rule: "not"
_NEXT_HOP = struct.Struct("=HBBi")  # length, flags, weight - 1, interface
_NAMES = {MAIN: "main", LOCAL: "local", 253: "default"}


@dataclass(frozen=True)
class HostRoute:
    """A route. C(dst): a network. C(gateways), C(devices): those of all its next hops."""

    dst: str
    kind: str = "unicast"
    gateways: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    table: int = MAIN
    protocol: int = 0

    def __str__(self) -> str:
        words = [self.dst] if self.kind == "unicast" else [self.kind, self.dst]
        words += [f"via {one}" for one in self.gateways] + [f"dev {one}" for one in dict.fromkeys(self.devices)]
        return " ".join(words + ([] if self.table == MAIN else [f"table {_NAMES.get(self.table, self.table)}"]))


@dataclass(frozen=True)
class HostRule:
    """A routing rule. C(kind): "lookup", or what happens to the packets.

    C(selectors): conditions besides source and destination, as C(ip rule) writes them. C(suppress): routes with a
    prefix of this length, or a shorter one, do not count.
    """

    version: int
    priority: int
    kind: str = "lookup"
    table: int = MAIN
    src: str = ""
    dst: str = ""
    selectors: tuple[str, ...] = ()
    suppress: int = -1

    def __str__(self) -> str:
        words = [f"{self.priority}:", f"from {self.src or 'all'}", *([f"to {self.dst}"] if self.dst else [])]
        words += self.selectors
        return " ".join(
            [*words, f"lookup {_NAMES.get(self.table, self.table)}" if self.kind == "lookup" else self.kind]
        )


def observe(reader: rtnetlink.Reader) -> tuple[list[HostRoute], list[HostRule]]:
    """The routes and the rules, both IPv4 and IPv6."""
    names = {message[2]: rtnetlink.text(attrs.get(rtnetlink.IFLA_IFNAME)) or "" for message, attrs in reader.links()}
    routes = [_route(fixed, attrs, names) for fixed, attrs in reader.routes() if fixed[0] in _VERSIONS]
    return routes, [_rule(fixed, attrs) for fixed, attrs in reader.rules() if fixed[0] in _VERSIONS]


_VERSIONS: dict[int, t.Literal[4, 6]] = {socket.AF_INET: 4, socket.AF_INET6: 6}
_ANYWHERE = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}


def _route(fixed: tuple[int, ...], attrs: rtnetlink.Attributes, names: t.Mapping[int, str]) -> HostRoute:
    family, length, _src, _tos, table, protocol, _scope, kind, _flags = fixed
    hops = [(rtnetlink.number(attrs.get(rtnetlink.RTA_OIF)), attrs), *_next_hops(attrs)]
    gateways = (_gateway(one) for _index, one in hops)
    return HostRoute(
        dst=f"{rtnetlink.ip(attrs.get(rtnetlink.RTA_DST)) or _ANYWHERE[socket.AddressFamily(family)]}/{length}",
        kind=KINDS.get(kind, str(kind)),
        gateways=tuple(one for one in gateways if one),
        devices=tuple(names.get(index, str(index)) for index, _attrs in hops if index),
        table=rtnetlink.number(attrs.get(rtnetlink.RTA_TABLE)) or table,
        protocol=protocol,
    )


def _next_hops(attrs: rtnetlink.Attributes) -> t.Iterator[tuple[int, rtnetlink.Attributes]]:
    data = attrs.get(rtnetlink.RTA_MULTIPATH, b"")
    while len(data) >= _NEXT_HOP.size:
        length, _flags, _weight, index = _NEXT_HOP.unpack_from(data)
        yield index, rtnetlink.attributes(data[_NEXT_HOP.size : length])
        data = data[max(_NEXT_HOP.size, (length + 3) & ~3) :]


def _gateway(attrs: rtnetlink.Attributes) -> str | None:
    via = attrs.get(rtnetlink.RTA_VIA)  # of the other address family, which its first two bytes name
    return rtnetlink.ip(attrs.get(rtnetlink.RTA_GATEWAY) or (via[2:] if via else None))


def _rule(fixed: tuple[int, ...], attrs: rtnetlink.Attributes) -> HostRule:
    family, dst, src, tos, table, _res1, _res2, action, flags = fixed
    number, text = rtnetlink.number, rtnetlink.text
    selectors = ["not"] if flags & INVERT else []
    for key, word in ((rtnetlink.FRA_IIFNAME, "iif"), (rtnetlink.FRA_OIFNAME, "oif")):
        selectors += [f"{word} {text(attrs[key])}"] if key in attrs else []
    selectors += [f"tos {tos:#x}"] if tos else []
    if mark := number(attrs.get(rtnetlink.FRA_FWMARK)):
        selectors.append(f"fwmark {mark:#x}")
    if number(attrs.get(rtnetlink.FRA_L3MDEV)):
        selectors.append("l3mdev")
    others = (
        (rtnetlink.FRA_UID_RANGE, "uidrange"),
        (rtnetlink.FRA_IP_PROTO, "ipproto"),
        (rtnetlink.FRA_SPORT, "sport"),
        (rtnetlink.FRA_DPORT, "dport"),
    )
    selectors += [word for key, word in others if key in attrs]
    suppress = number(attrs.get(rtnetlink.FRA_SUPPRESS_PREFIXLEN))
    anywhere = _ANYWHERE[socket.AddressFamily(family)]
    return HostRule(
        version=_VERSIONS[family],
        priority=number(attrs.get(rtnetlink.FRA_PRIORITY)) or 0,
        kind="lookup" if action == TO_TABLE else KINDS.get(action, str(action)),
        table=number(attrs.get(rtnetlink.FRA_TABLE)) or table,
        src=f"{rtnetlink.ip(attrs.get(rtnetlink.FRA_SRC)) or anywhere}/{src}" if src else "",
        dst=f"{rtnetlink.ip(attrs.get(rtnetlink.FRA_DST)) or anywhere}/{dst}" if dst else "",
        selectors=tuple(selectors),
        suppress=-1 if suppress in (None, 0xFFFFFFFF) else suppress,
    )
