# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Links with their addresses, routes, neighbours and FDB entries: rtnetlink messages -> observed.Link."""

from __future__ import annotations

import re
import socket
import typing as t

from . import rtnetlink
from .observed import Link, Route

PARTS = ("addresses", "routes", "neighbours", "fdb", "multicast")  # each costs one more request


def observe(
    reader: rtnetlink.Reader, parts: t.Collection[str], asked: t.Collection[tuple[str, str]]
) -> dict[str, Link]:
    """The interfaces of the caller's namespace by name, with the given PARTS.

    asked: proxy entries to look for, as (interface, address).
    """
    addresses = _addresses(reader) if "addresses" in parts else {}
    routes = _routes(reader) if "routes" in parts else {}
    neighbours = _neighbours(reader) if "neighbours" in parts else {}
    fdb = _fdb(reader) if "fdb" in parts else {}
    proxies = _proxies(reader) if asked else set()
    multicast = _multicast() if "multicast" in parts else {}
    raw = {index: (flags, attrs) for (_family, _type, index, flags, _change), attrs in reader.links()}
    names = {index: rtnetlink.text(attrs[rtnetlink.IFLA_IFNAME]) or "" for index, (_flags, attrs) in raw.items()}
    links = {}
    for index, (flags, attrs) in raw.items():
        name = names[index]
        info = rtnetlink.attributes(attrs.get(rtnetlink.IFLA_LINKINFO, b""))
        kind = rtnetlink.text(info.get(rtnetlink.IFLA_INFO_KIND))
        bridge = rtnetlink.attributes(info.get(rtnetlink.IFLA_INFO_DATA, b"")) if kind == "bridge" else {}
        is_port = rtnetlink.text(info.get(rtnetlink.IFLA_INFO_SLAVE_KIND)) == "bridge"
        port = rtnetlink.attributes(info.get(rtnetlink.IFLA_INFO_SLAVE_DATA, b"")) if is_port else {}
        links[name] = Link(
            name=name,
            kind=kind,
            index=index,
            mac=rtnetlink.mac(attrs.get(rtnetlink.IFLA_ADDRESS)),
            mtu=rtnetlink.number(attrs.get(rtnetlink.IFLA_MTU)),
            up=bool(flags & rtnetlink.IFF_UP),
            master=names.get(rtnetlink.number(attrs.get(rtnetlink.IFLA_MASTER)) or 0),
            peer_index=rtnetlink.number(attrs.get(rtnetlink.IFLA_LINK)) if kind == "veth" else None,
            mcast_snooping=bridge[rtnetlink.IFLA_BR_MCAST_SNOOPING] != b"\0" if bridge else None,
            flood=port.get(rtnetlink.IFLA_BRPORT_UNICAST_FLOOD) != b"\0",
            learning=port.get(rtnetlink.IFLA_BRPORT_LEARNING) != b"\0",
            neigh_suppress=port.get(rtnetlink.IFLA_BRPORT_NEIGH_SUPPRESS) == b"\1",
            addresses=frozenset(addresses.get(index, ())),
            routes={proto: frozenset(found) for proto, found in routes.get(index, {}).items()},
            neighbours=neighbours.get(index, {}),
            proxies=frozenset(ip for dev, ip in asked if dev == name and (index, ip) in proxies),
            fdb=frozenset(fdb.get(index, ())),
            multicast=frozenset(multicast.get(index, ())),
        )
    return links


# By the index of the interface:


def _addresses(reader: rtnetlink.Reader) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for (_family, length, _flags, _scope, index), attrs in reader.addresses():
        # With a peer, IFA_ADDRESS is the address of the peer.
        own = rtnetlink.ip(attrs.get(rtnetlink.IFA_LOCAL) or attrs.get(rtnetlink.IFA_ADDRESS))
        found.setdefault(index, set()).add(f"{own}/{length}")
    return found


def _routes(reader: rtnetlink.Reader) -> dict[int, dict[int, set[Route]]]:
    """Routes of the main table, by route protocol. Multipath routes have no interface and are left out."""
    found: dict[int, dict[int, set[Route]]] = {}
    for (family, length, _src_len, _tos, _table, proto, *_rest), attrs in reader.routes():
        index = rtnetlink.number(attrs.get(rtnetlink.RTA_OIF))
        if rtnetlink.number(attrs.get(rtnetlink.RTA_TABLE)) == rtnetlink.RT_TABLE_MAIN and index is not None:
            default = "0.0.0.0" if family == socket.AF_INET else "::"
            route = Route(
                f"{rtnetlink.ip(attrs.get(rtnetlink.RTA_DST)) or default}/{length}",
                rtnetlink.ip(attrs.get(rtnetlink.RTA_GATEWAY)),
                rtnetlink.ip(attrs.get(rtnetlink.RTA_PREFSRC)),
            )
            found.setdefault(index, {}).setdefault(proto, set()).add(route)
    return found


def _neighbours(reader: rtnetlink.Reader) -> dict[int, dict[str, str]]:
    found: dict[int, dict[str, str]] = {}
    for (_family, index, state, _flags, _type), attrs in reader.neighbours():
        ip, mac = rtnetlink.ip(attrs.get(rtnetlink.NDA_DST)), rtnetlink.mac(attrs.get(rtnetlink.NDA_LLADDR))
        if state & rtnetlink.NUD_PERMANENT and ip and mac:
            found.setdefault(index, {})[ip] = mac
    return found


def _proxies(reader: rtnetlink.Reader) -> set[tuple[int, str | None]]:
    return {
        (index, rtnetlink.ip(attrs.get(rtnetlink.NDA_DST)))
        for (_f, index, *_rest), attrs in reader.neighbours(0, rtnetlink.NTF_PROXY)
    }


def _fdb(reader: rtnetlink.Reader) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for (_family, index, state, _flags, _type), attrs in reader.neighbours(rtnetlink.AF_BRIDGE):
        mac = rtnetlink.mac(attrs.get(rtnetlink.NDA_LLADDR))
        if state & rtnetlink.NUD_NOARP and rtnetlink.NDA_MASTER in attrs and mac:
            found.setdefault(index, set()).add(mac)
    return found


# index, name, users, flag, address; the name is any bytes but white space
_MULTICAST = re.compile(rb"^([0-9]+)[ \t]+\S+[ \t]+[0-9]+[ \t]+([0-9]+)[ \t]+((?:[0-9a-f]{2})+)$", re.M)


def _multicast() -> dict[int, set[str]]:
    with open("/proc/thread-self/net/dev_mcast", "rb") as file:
        return multicast(file.read())


def multicast(table: bytes) -> dict[int, set[str]]:
    """MAC addresses added by C(ip maddr add). The kernel's own memberships do not have the flag C(global). Pure."""
    found: dict[int, set[str]] = {}
    for index, is_global, address in _MULTICAST.findall(table):
        if int(is_global):
            found.setdefault(int(index), set()).add(bytes.fromhex(address.decode()).hex(":"))
    return found
