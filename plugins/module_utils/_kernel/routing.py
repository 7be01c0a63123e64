# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""tun devices, routing rules and multipath routes of bundles, observed by C(ip -json) in the caller's namespace.

They are changed by iproute2 too, with the commands that a diff shows, because versions of pyroute2 differ here.
"""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass, field

from . import command

PROTOCOL = "197"  # of our routes and rules: unassigned in iproute2's rt_protos, like RTPROT_CLUSTERIP
MAIN = 254
SCOPE_LINK = "253"
FAMILIES = {"ip": "-4", "ip6": "-6"}


@dataclass(frozen=True)
class Device:
    """An interface as far as tun and tap devices need it. C(addresses): (address, address of the peer or None)."""

    name: str
    device_type: str | None  # tun, tap, or None for other interfaces
    persist: bool = False
    user: str | None = None
    group: str | None = None
    alias: str = ""
    mtu: int = 0
    queue: int = 0
    up: bool = False
    rate: int = 0  # bit/s, of a queueing discipline tbf
    addresses: frozenset[tuple[str, str | None]] = frozenset()


@dataclass(frozen=True)
class RoutingRule:
    """A rule: packets with a mark use a table."""

    family: str
    priority: int
    mark: int
    table: int


@dataclass(frozen=True)
class MultiRoute:
    """A route over one or more devices; legs are (gateway, device, weight)."""

    legs: frozenset[tuple[str, str, int]]
    src: str | None = None
    reordering: int = 0
    congestion_control: str = ""


@dataclass(frozen=True)
class Seen:
    """Devices, and rules and routes of our protocol. C(routes): (family, table, destination) -> route.

    C(others): requested destinations to which another program has a route that ours would conflict with.
    """

    devices: t.Mapping[str, Device] = field(default_factory=dict)
    rules: frozenset[RoutingRule] = frozenset()
    routes: t.Mapping[tuple[str, int, str], MultiRoute] = field(default_factory=dict)
    others: frozenset[str] = frozenset()


def observe(networks: t.Iterable[str] = ()) -> Seen:
    """Observe the caller's namespace. C(networks): destinations for Seen.others. Raises CommandError."""
    limits = {one["dev"]: one for one in _parsed(command.run(["tc", "-json", "qdisc", "show"])) if one["kind"] == "tbf"}
    devices = {one["ifname"]: _device(one, limits.get(one["ifname"])) for one in _asked("-details", "addr", "show")}
    rules: set[RoutingRule] = set()
    routes: dict[tuple[str, int, str], MultiRoute] = {}
    for family, option in FAMILIES.items():
        rules.update(_rule(family, one) for one in _asked(option, "rule", "show") if _is_ours(one))
        for one in _asked(option, "-details", "route", "show", "table", "all", "proto", PROTOCOL):
            routes.update([_route(family, one)])
    return Seen(devices, frozenset(rules), routes, frozenset(one for one in networks if _others(one)))


def _others(network: str) -> bool:
    """Whether the main table has a route to it of another protocol with the metric of ours, which would conflict."""
    family, metric = ("ip6", 1024) if ":" in network else ("ip", 0)
    shown = _asked(FAMILIES[family], "route", "show", "table", "main", "exact", network)
    return any(
        str(one.get("protocol")) != PROTOCOL and one.get("metric", 0) == metric and "tos" not in one for one in shown
    )


def _asked(*words: str) -> list[dict[str, t.Any]]:
    return _parsed(command.run(["ip", "-json", "-Numeric", *words]))


def _parsed(text: str) -> list[dict[str, t.Any]]:
    return [one for one in json.loads(text or "[]") if one]


def _device(link: t.Mapping[str, t.Any], limit: t.Mapping[str, t.Any] | None) -> Device:
    info = link.get("linkinfo", {})
    data = info.get("info_data", {}) if info.get("info_kind") == "tun" else {}
    return Device(
        name=link["ifname"],
        device_type=data.get("type"),
        persist=bool(data.get("persist")),
        user=data.get("user"),
        group=data.get("group"),
        alias=link.get("ifalias", ""),
        mtu=link.get("mtu", 0),
        queue=link.get("txqlen", 0),
        up="UP" in link.get("flags", ()),
        rate=limit["options"]["rate"] * 8 if limit else 0,
        addresses=frozenset(
            (one["local"], one.get("address")) for one in link.get("addr_info", ()) if one.get("scope") != SCOPE_LINK
        ),
    )


def _is_ours(rule: t.Mapping[str, t.Any]) -> bool:
    return str(rule.get("protocol")) == PROTOCOL and "fwmark" in rule


def _rule(family: str, rule: t.Mapping[str, t.Any]) -> RoutingRule:
    return RoutingRule(family, rule["priority"], int(rule["fwmark"], 0), int(rule["table"]))


def _route(family: str, route: t.Mapping[str, t.Any]) -> tuple[tuple[str, int, str], MultiRoute]:
    anywhere = "::/0" if family == "ip6" else "0.0.0.0/0"
    dst = anywhere if route["dst"] == "default" else route["dst"]
    if "/" not in dst:
        dst += "/128" if family == "ip6" else "/32"
    hops = route.get("nexthops") or [route]
    metrics = {key: value for one in route.get("metrics", ()) for key, value in one.items()}
    legs = frozenset((hop.get("gateway", ""), hop.get("dev", ""), hop.get("weight", 1)) for hop in hops)
    return (family, int(route.get("table", MAIN)), dst), MultiRoute(
        legs, route.get("prefsrc"), metrics.get("reordering", 0), metrics.get("congestion", "")
    )
