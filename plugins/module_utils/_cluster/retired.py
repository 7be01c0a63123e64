# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a layout before had and the one now has not: to be taken down, and what is served meanwhile. Pure."""

from __future__ import annotations

import ipaddress
import typing as t

Data = dict[str, t.Any]


def retired(previous: t.Mapping[str, t.Any], now: Data, facts: t.Mapping[str, t.Any]) -> Data:
    """What was there before and is not wanted now, whole. It stays on the list until it was taken down."""
    before = previous.get("retired", {})
    gone: Data = {"clusters": _former_clusters(previous, now)}
    gone["failover"] = {} if now.get("failover") else previous.get("failover") or before.get("failover", {})
    for kind in ("servers", "veths", "namespaces"):
        kept = {item["name"] for item in now[kind]}
        items = [*previous.get(kind, []), *before.get(kind, [])]
        gone[kind] = [item for item in {item["name"]: item for item in items}.values() if item["name"] not in kept]
    # Servers that would be in the way of a new one: they stop first, the others when all buckets have moved.
    ends = {end for s in now["servers"] for end in _ends(s)}
    gone["in_the_way"] = [s for s in gone["servers"] if _ends(s) & ends]
    gone["former_bridges"] = _former_bridges(previous, now)
    left = {bridge["name"] for bridge in gone["former_bridges"]}
    gone["nics"] = [nic for nic in [*_taken(previous), *before.get("nics", [])] if nic["bridge"] in left]
    gone["bridges"], gone["left"] = _still_joined(previous, now, gone["veths"], facts)
    return gone


def _ends(server: Data) -> set[tuple[t.Any, ...]]:
    """What only one server of a namespace can have."""
    keys = ("network", "network_ipv6", "device")
    return {(server["netns"], key, server[key]) for key in keys if key in server} | {
        (server["netns"], server["protocol"], server["port"])
    }


def _former_clusters(previous: t.Mapping[str, t.Any], now: Data) -> list[Data]:
    """Service addresses that the cluster had before, at which interface and bridge, and of which nodes."""
    former = list(previous.get("retired", {}).get("clusters", []))
    if "cluster" in previous:
        held = {**previous["cluster"], "nodes": previous["nodes"]}
        former += [{**held, **one} for one in addresses_of(previous)]

    def place(one: Data) -> tuple[str, str, str, str]:
        return one["address"], one["interface"], one["bridge"], one.get("uplink", "routed")

    kept = {place({**now["cluster"], **one}) for one in addresses_of(now)}
    return [one for one in {place(one): one for one in former}.values() if place(one) not in kept]


def _former_bridges(previous: t.Mapping[str, t.Any], now: Data) -> list[Data]:
    """Bridges that the cluster was at, each with the members that were about to leave it."""
    before = previous.get("retired", {})
    at = {bridge["name"] for bridge in now["bridges"]}
    about_to = {bridge["name"]: bridge["ports"] for bridge in before.get("left", [])}
    former = {b["name"]: b for b in [*previous.get("bridges", []), *before.get("former_bridges", [])]}
    return [{**b, "ports": b["ports"] + about_to.get(name, [])} for name, b in former.items() if name not in at]


def _taken(previous: t.Mapping[str, t.Any]) -> list[Data]:
    """The NIC that was given to the bridge."""
    if not previous.get("take_interface"):
        return []
    return [{"bridge": previous["cluster"]["bridge"], "interface": previous["cluster"]["interface"]}]


def _still_joined(
    previous: t.Mapping[str, t.Any], now: Data, veths: list[Data], facts: t.Mapping[str, t.Any]
) -> tuple[list[Data], list[Data]]:
    """The bridge with the members that go still on it: their clients are served until their buckets have moved.

    And, of a bridge that is somebody else's, what is to leave it then.
    """
    leaving = {v["name"] for v in veths} & set(facts.get("interfaces", []))
    gateways = {a.split("/")[0] for v in veths if v["name"] in leaving for a in v["peer"]["addresses"]}
    macs = {v["peer"]["mac"]: v["name"] for v in veths if v["name"] in leaving}
    if not now["bridges"]:
        return [], []
    (bridge,) = now["bridges"]
    former = [*previous.get("bridges", []), *previous.get("retired", {}).get("bridges", [])]
    former = [b for b in former if b["name"] == bridge["name"]]
    if not leaving or not former:
        return [], []
    known = {route["dst"] for route in bridge["routes"]}
    routes = {r["dst"]: r for b in former for r in b["routes"] if r["via"] in gateways and r["dst"] not in known}
    # A gateway cannot be reached in a network that was the bridge's.
    nets = [ipaddress.ip_interface(a).network for a in bridge.get("addresses", [])]
    if nets:
        routes = {dst: r for dst, r in routes.items() if any(ipaddress.ip_address(r["via"]) in net for net in nets)}
    joined = {
        **bridge,
        "ports": bridge["ports"] + sorted(leaving),
        "fdb": bridge["fdb"] + [{"mac": mac, "port": port} for mac, port in macs.items()],
        "routes": bridge["routes"] + list(routes.values()),
    }
    left = {"name": bridge["name"], "exclusive": False, "ports": sorted(leaving), "routes": list(routes.values())}
    return [joined], [] if bridge.get("exclusive", True) else [left]


def addresses_of(some: t.Mapping[str, t.Any]) -> list[Data]:
    """The service addresses of a layout, which may be older than IPv6, or a bundle's, which has none."""
    if "cluster" not in some:
        return []
    return some.get("addresses") or [{"address": some["cluster"]["address"]}]
