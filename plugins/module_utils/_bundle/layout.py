# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The layout of one end of a bundle: the role's settings -> parameters of the modules, the desired state. Pure.

Both ends compute their layout from the same settings. Each end owns one half of the bundle's network: the first address
is the end's own, independent of the tunnel that a packet takes, and the address K after it belongs to tunnel K. So one
route to the other half serves any number of tunnels, and all resources of tunnel K depend on K alone.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t

from .. import _params as p
from .._cluster.cluster import cluster_name
from .._cluster.lan import host_networks
from .._state.bundle import BundleState
from .._state.cluster import ClusterState
from .._state.files import State, state_of
from .._state.schema import plain
from . import bundle as _bundle
from .weights import MAX_SLOTS, by_rate

Data = dict[str, t.Any]
Network = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
NamedNetworks = list[tuple[str, Network]]  # with the parameter that each comes from

# Bytes that a tunnel adds to a packet: opcode and peer id 4, packet id 4, tag 16; UDP 8; IP. A tap frame adds 14.
OVERHEAD = {4: 24 + 8 + 20, 6: 24 + 8 + 40}
ETHERNET_HEADER = 14
TUNNEL_KEYS = ("number", "weight", "rate", "cpus")  # in a list of tunnels
# Settings that are parameters of the module as they are.
PASSED_ON = (
    *("spread", "snat", "queue", "timeout", "probe_port", "reordering", "congestion_control"),
    *("rule_priority", "user", "group", "device_type"),
)


def layout(settings: t.Mapping[str, t.Any], previous: State | None = None) -> BundleState:
    """The layout of one end. Raises ParameterError.

    settings: name, end (0 or 1, the position of this host), ends (both hosts, each with name, address, networks),
    tunnels (a number, or a list of dictionaries with TUNNEL_KEYS), port, network, ipv6_network, first_mark, outer_mtu,
    mtu, netns, pin, cores, facts, leaving (whether the bundle is to be removed), and PASSED_ON.
    previous: the saved layout. Its tunnels and addresses that are no longer desired are returned, to be removed.
    """
    name = cluster_name("name", settings["name"])
    if isinstance(previous, ClusterState):
        raise p.ParameterError("name", name, "this is the name of a cluster on this host; choose another name")
    former = plain(previous.bundles) if previous else []
    _refuse_moved_netns(former, settings.get("netns") or "")
    ends = list(settings["ends"])
    if len(ends) != 2:
        raise p.ParameterError("ends", [end.get("name") for end in ends], "a bundle has two ends; name two hosts")
    here, there = (ends[settings["end"]], ends[1 - settings["end"]])
    outer = [_outer_address(end) for end in ends]
    if outer[0] == outer[1] or outer[0].version != outer[1].version:
        raise p.ParameterError(
            "ends.address", [str(one) for one in outer], "give two different addresses of the same family"
        )
    sites = [_site_networks(end) for end in ends]
    inner = _bundle_networks(settings, sites)
    _refuse_overlaps([*inner, *sites[0], *sites[1]], [(f"ends[{e['name']}].address", a) for e, a in zip(ends, outer)])
    tunnels = _tunnels(settings, [net for _parameter, net in inner])
    if not settings.get("leaving") and not settings.get("netns"):  # facts describe the host's own namespace only
        _refuse_host_networks(name, settings, [*inner, *sites[1 - settings["end"]]])
    halves = [list(net.subnets(1)) for _parameter, net in inner]
    own = [half[settings["end"]] for half in halves]
    other = [half[1 - settings["end"]] for half in halves]
    bundle: Data = {
        "name": name,
        "netns": settings.get("netns") or "",
        "networks": [str(net) for net in other] + [str(net) for _parameter, net in sites[1 - settings["end"]]],
        "addresses": [str(net[1]) for net in own],
        "mtu": settings.get("mtu") or _mtu(settings, outer[0].version),
        "tunnels": [_tunnel(name, settings, tunnel, own, other) for tunnel in tunnels],
        **{key: settings[key] for key in PASSED_ON},
    }
    result: Data = {"name": name, "bundles": [bundle]}
    # Includes those that an interrupted run has left behind.
    held = {one for b in former for key in ("addresses", "former_addresses") for one in b.get(key, [])}
    bundle["former_addresses"] = sorted(held - {*bundle["addresses"]})
    _bundle.bundle_from(bundle)  # checks everything that is not checked above
    result["instances"] = [
        {
            "name": tunnel["device"],
            "netns": bundle["netns"],
            "port": tunnel["port"],
            "cpus": item["cpus"],
        }
        for tunnel, item in zip(bundle["tunnels"], tunnels)
    ]
    result["peer"] = {"address": str(outer[1 - settings["end"]]), "name": there["name"]}
    result["local"] = {"address": str(outer[settings["end"]]), "name": here["name"]}
    retired = _retired(former, plain(previous.retired) if previous else [], bundle)
    result["retired"] = retired
    result["gone"] = [{"name": tunnel["device"], "netns": bundle["netns"]} for tunnel in retired]
    return t.cast(BundleState, state_of(result))


def draining(state: BundleState) -> Data:
    """The bundle including its retired tunnels, with the weight 0: they get no more packets."""
    bundle = plain(state.bundle)
    # The bundle may have lost IPv6 meanwhile.
    families = {_bundle.family(one) for one in bundle["addresses"]}
    leaving = [
        {
            **{key: value for key, value in one.items() if key != "drained"},
            "addresses": [pair for pair in one["addresses"] if _bundle.family(pair["local"]) in families],
            "weight": 0,
        }
        for one in plain(state.retired)
        if one["drained"]
    ]
    return {**bundle, "tunnels": [*bundle["tunnels"], *leaving]}


def _refuse_moved_netns(former: t.Iterable[Data], netns: str) -> None:
    """A bundle cannot move to another namespace: the modules would not look for it in the former one."""
    for one in former:
        if one["netns"] != netns:
            where = f"the namespace {one['netns']}" if one["netns"] else "the host's own namespace"
            raise p.ParameterError(
                "netns", netns, f"the bundle is in {where}; remove it there first, with state: absent"
            )


def _outer_address(end: t.Mapping[str, t.Any]) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(p.service_address(f"ends[{end['name']}].address", end["address"]))


def _site_networks(end: t.Mapping[str, t.Any]) -> NamedNetworks:
    where = f"ends[{end['name']}].networks"
    return [(where, p.network(where, net)) for net in end.get("networks") or []]


def _bundle_networks(settings: t.Mapping[str, t.Any], sites: list[NamedNetworks]) -> NamedNetworks:
    found: NamedNetworks = [("network", p.network("network", settings["network"], version=4))]
    if any(net.version == 6 for site in sites for _parameter, net in site):
        found.append(("ipv6_network", p.network("ipv6_network", settings["ipv6_network"], version=6)))
    return found


def _refuse_overlaps(networks: NamedNetworks, outer: t.Iterable[tuple[str, t.Any]]) -> None:
    for n, (parameter, net) in enumerate(networks):
        for other, other_net in networks[:n]:
            if net.overlaps(other_net):
                raise p.ParameterError(parameter, str(net), f"overlaps {other} {other_net}; choose another network")
        for other, address in outer:
            if address in net:
                raise p.ParameterError(
                    parameter,
                    str(net),
                    f"contains {other} {address}, which the tunnels need; choose another network",
                )


def _refuse_host_networks(name: str, settings: t.Mapping[str, t.Any], networks: NamedNetworks) -> None:
    host = host_networks(settings.get("facts") or {}, "") or {}
    for interface, found in host.items():
        if interface == "lo" or interface.startswith(f"{name}-"):
            continue
        for one in found:
            for parameter, net in networks:
                if net.overlaps(one.network):
                    raise p.ParameterError(
                        parameter, str(net), f"overlaps {one} of {interface} of this host; choose another network"
                    )


def _tunnels(settings: t.Mapping[str, t.Any], networks: list[Network]) -> list[Data]:
    given = settings["tunnels"]
    if isinstance(given, list):
        items = given
    elif str(given).isdigit():
        items = [{} for _k in range(min(int(given), _bundle.MAX_TUNNELS + 1))]
    else:
        raise p.ParameterError("tunnels", given, "give a number of tunnels, or a list of tunnels")
    if not 1 <= len(items) <= _bundle.MAX_TUNNELS:
        raise p.ParameterError("tunnels", given, f"a bundle has 1 to {_bundle.MAX_TUNNELS} tunnels")
    cores = settings.get("cores")
    result: list[Data] = []
    for i, item in enumerate(items):
        where = f"tunnels[{i}]"
        if not isinstance(item, dict) or not set(item) <= {*TUNNEL_KEYS}:
            raise p.ParameterError(where, item, f"give a tunnel as a dictionary with any of {', '.join(TUNNEL_KEYS)}")
        given = {key: value for key, value in item.items() if value is not None}
        number = _integer(f"{where}.number", given.get("number", i + 1))
        room = min(net.num_addresses // 2 for net in networks) - 2
        if not 1 <= number <= min(room, MAX_SLOTS):
            raise p.ParameterError(f"{where}.number", number, f"the network has room for the numbers 1 to {room}")
        last = settings["port"] + number - 1
        if not 1 <= settings["port"] <= last <= 65535:
            raise p.ParameterError(
                "port", settings["port"], f"tunnel {number} would have the port {last}; ports are 1 to 65535"
            )
        rate = (f"{where}.rate", given["rate"]) if "rate" in given else ("rate", settings.get("rate"))
        pinned = [(number - 1) % (cores or 1)] if settings.get("pin") else []
        result.append(
            {
                "number": number,
                "rate": _rate(*rate),
                "cpus": _cpus(f"{where}.cpus", given.get("cpus"), None if settings.get("leaving") else cores) or pinned,
                "weight": _integer(f"{where}.weight", given.get("weight", 1)),
            }
        )
    p.unique("tunnels.number", (item["number"] for item in result))
    if not any(isinstance(item, dict) and item.get("weight") is not None for item in items):
        for made, weight in zip(result, by_rate([made["rate"] for made in result])):
            made["weight"] = weight
    return result


def _integer(parameter: str, value: t.Any) -> int:
    """An integer; templates may have turned it into text."""
    if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]{1,9}", str(value)):
        raise p.ParameterError(parameter, value, "give a whole number")
    return int(value)


def _rate(parameter: str, value: t.Any) -> float:
    try:
        return float(0 if value in (None, "") else value)
    except (TypeError, ValueError) as exc:
        raise p.ParameterError(parameter, value, "give Mbit/s, or 0 for no limit") from exc


def _cpus(parameter: str, value: t.Any, cores: int | None) -> list[int]:
    if value is not None and not isinstance(value, list):
        raise p.ParameterError(parameter, value, "give a list of CPU numbers")
    cpus = [_integer(parameter, one) for one in value or []]
    if any(one < 0 or (cores and one >= cores) for one in cpus):
        raise p.ParameterError(
            parameter, value, f"this host has the CPUs 0 to {cores - 1}" if cores else "0 is the first"
        )
    return cpus


def _mtu(settings: t.Mapping[str, t.Any], version: int) -> int:
    return int(settings["outer_mtu"]) - OVERHEAD[version] - (ETHERNET_HEADER if settings["device_type"] == "tap" else 0)


def _tunnel(name: str, settings: t.Mapping[str, t.Any], item: Data, own: list[Network], other: list[Network]) -> Data:
    number = item["number"]
    return {
        "number": number,
        "device": f"{name}-{number}",
        "port": settings["port"] + number - 1,
        "mark": (settings.get("first_mark") or settings["port"]) + number - 1,
        "weight": item["weight"],
        "rate": item["rate"],
        "addresses": [{"local": str(a[number + 1]), "peer": str(b[number + 1])} for a, b in zip(own, other)],
    }


def _retired(former: t.Iterable[Data], before: t.Iterable[Data], bundle: Data) -> list[Data]:
    """Tunnels of the previous layout that are no longer desired, including those of an interrupted run."""
    kept = {key: {tunnel[key] for tunnel in bundle["tunnels"]} for key in ("number", "device", "port", "mark")}
    taken = {one for tunnel in bundle["tunnels"] for pair in tunnel["addresses"] for one in pair.values()}
    found: dict[int, Data] = {}
    for tunnel in [*before, *(tunnel for one in former for tunnel in one["tunnels"])]:
        if tunnel["number"] not in kept["number"]:
            found[tunnel["number"]] = {**tunnel}
    # A tunnel whose port, mark, device or address is used otherwise now is removed at once, without being drained.
    for tunnel in found.values():
        clash = any(tunnel[key] in numbers for key, numbers in kept.items()) or tunnel["port"] == bundle["probe_port"]
        clash = clash or any(one in taken for pair in tunnel["addresses"] for one in pair.values())
        tunnel["drained"] = not clash
    return list(found.values())
