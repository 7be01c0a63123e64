# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The layout of a bundle at one of its ends: what the user says -> the parameters of the modules. Pure.

Both ends are laid out from the same words. The network of the bundle has two halves, one for each end: in it, tunnel K
has the address K after the first, which is the end's own, whatever tunnel its packets take. So a route to the other
half is right for any number of tunnels, and what belongs to tunnel K depends on K alone.
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

Data = dict[str, t.Any]
Network = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Named = list[tuple[str, Network]]  # with the parameter that it comes from

# What OpenVPN adds to a packet: operation and peer 4, packet id 4, tag 16; UDP 8; IP. A frame of tap has 14 more.
OVERHEAD = {4: 24 + 8 + 20, 6: 24 + 8 + 40}
ETHERNET = 14
ITEM = ("number", "weight", "rate", "cpus")  # of a tunnel that is not just counted
# Of the user's words, those that the module takes as they are.
PLAIN = (
    *("spread", "snat", "queue", "timeout", "probe_port", "reordering", "congestion_control"),
    *("rule_priority", "user", "group", "device_type"),
)


def layout(wanted: t.Mapping[str, t.Any], previous: State | None = None) -> BundleState:
    """Everything that one end is made of.

    wanted: name, end (0 or 1: which one this is), ends (of both: name, address, networks), tunnels (a number, or a list
    of number, weight, rate, cpus), port, network, ipv6_network, first_mark, outer_mtu, mtu, netns, pin, cores, facts,
    and what PLAIN names. previous: the layout until now, by which is known what is to go. Raises ParameterError.
    """
    name = cluster_name("name", wanted["name"])
    if isinstance(previous, ClusterState):
        raise p.ParameterError("name", name, "a cluster of this host is called like this; choose another name")
    former = plain(previous.bundles) if previous else []
    _stays(former, wanted.get("netns") or "")
    ends = list(wanted["ends"])
    if len(ends) != 2:
        raise p.ParameterError("ends", [end.get("name") for end in ends], "a bundle has two ends: name two hosts")
    here, there = (ends[wanted["end"]], ends[1 - wanted["end"]])
    outer = [_outer(end) for end in ends]
    if outer[0] == outer[1] or outer[0].version != outer[1].version:
        raise p.ParameterError("ends.address", [str(one) for one in outer], "give two addresses of one family")
    sites = [_site(end) for end in ends]
    inner = _inner(wanted, sites)
    _no_overlaps([*inner, *sites[0], *sites[1]], [(f"ends[{e['name']}].address", a) for e, a in zip(ends, outer)])
    tunnels = _tunnels(wanted, [net for _parameter, net in inner])
    if not wanted.get("leaving") and not wanted.get("netns"):  # facts are the machine's, not those of a namespace
        _fits_host(name, wanted, [*inner, *sites[1 - wanted["end"]]])
    halves = [list(net.subnets(1)) for _parameter, net in inner]
    own = [half[wanted["end"]] for half in halves]
    other = [half[1 - wanted["end"]] for half in halves]
    bundle: Data = {
        "name": name,
        "netns": wanted.get("netns") or "",
        "networks": [str(net) for net in other] + [str(net) for _parameter, net in sites[1 - wanted["end"]]],
        "addresses": [str(net[1]) for net in own],
        "mtu": wanted.get("mtu") or _mtu(wanted, outer[0].version),
        "tunnels": [_tunnel(name, wanted, tunnel, own, other) for tunnel in tunnels],
        **{key: wanted[key] for key in PLAIN},
    }
    result: Data = {"name": name, "bundles": [bundle]}
    # Also those of a run that did not come to its end.
    held = {one for b in former for key in ("addresses", "former_addresses") for one in b.get(key, [])}
    bundle["former_addresses"] = sorted(held - {*bundle["addresses"]})
    _bundle.bundle_from(bundle)  # whatever else may be wrong is found now
    result["instances"] = [
        {
            "name": tunnel["device"],
            "netns": bundle["netns"],
            "port": tunnel["port"],
            "cpus": item["cpus"],
        }
        for tunnel, item in zip(bundle["tunnels"], tunnels)
    ]
    result["peer"] = {"address": str(outer[1 - wanted["end"]]), "name": there["name"]}
    result["local"] = {"address": str(outer[wanted["end"]]), "name": here["name"]}
    retired = _retired(former, plain(previous.retired) if previous else [], bundle)
    result["retired"] = retired
    result["gone"] = [{"name": tunnel["device"], "netns": bundle["netns"]} for tunnel in retired]
    return t.cast(BundleState, state_of(result))


def draining(state: BundleState) -> Data:
    """The parameters of the bundle while retired tunnels are drained: they get no more packets."""
    bundle = plain(state.bundle)
    # The end may have an address of one family only by now.
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


def _stays(former: t.Iterable[Data], netns: str) -> None:
    """Nobody looks for it in the namespace where it was before."""
    for one in former:
        if one["netns"] != netns:
            place = f"the namespace {one['netns']}" if one["netns"] else "the host's own namespace"
            raise p.ParameterError("netns", netns, f"the bundle is in {place}; remove it there first, by state: absent")


def _outer(end: t.Mapping[str, t.Any]) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(p.service_address(f"ends[{end['name']}].address", end["address"]))


def _site(end: t.Mapping[str, t.Any]) -> Named:
    where = f"ends[{end['name']}].networks"
    return [(where, p.network(where, net)) for net in end.get("networks") or []]


def _inner(wanted: t.Mapping[str, t.Any], sites: list[Named]) -> Named:
    found: Named = [("network", p.network("network", wanted["network"], version=4))]
    if any(net.version == 6 for site in sites for _parameter, net in site):
        found.append(("ipv6_network", p.network("ipv6_network", wanted["ipv6_network"], version=6)))
    return found


def _no_overlaps(networks: Named, outer: t.Iterable[tuple[str, t.Any]]) -> None:
    for n, (parameter, net) in enumerate(networks):
        for other, other_net in networks[:n]:
            if net.overlaps(other_net):
                raise p.ParameterError(parameter, str(net), f"overlaps {other} {other_net}; choose another network")
        for other, address in outer:
            if address in net:
                raise p.ParameterError(
                    parameter, str(net), f"must not hold {other} {address}: tunnels would be sent into themselves"
                )


def _fits_host(name: str, wanted: t.Mapping[str, t.Any], networks: Named) -> None:
    host = host_networks(wanted.get("facts") or {}, "") or {}
    for interface, found in host.items():
        if interface == "lo" or interface.startswith(f"{name}-"):
            continue
        for one in found:
            for parameter, net in networks:
                if net.overlaps(one.network):
                    raise p.ParameterError(
                        parameter, str(net), f"overlaps {one} of {interface} of this host; choose another network"
                    )


def _tunnels(wanted: t.Mapping[str, t.Any], networks: list[Network]) -> list[Data]:
    given = wanted["tunnels"]
    if isinstance(given, list):
        items = given
    elif str(given).isdigit():
        items = [{} for _k in range(min(int(given), _bundle.MAX_TUNNELS + 1))]
    else:
        raise p.ParameterError("tunnels", given, "give a number of tunnels, or a list of them")
    if not 1 <= len(items) <= _bundle.MAX_TUNNELS:
        raise p.ParameterError("tunnels", given, f"a bundle has 1 to {_bundle.MAX_TUNNELS} tunnels")
    cores = wanted.get("cores")
    result = []
    for i, item in enumerate(items):
        where = f"tunnels[{i}]"
        if not isinstance(item, dict) or not set(item) <= {*ITEM}:
            raise p.ParameterError(where, item, f"give a tunnel as a dictionary with any of {', '.join(ITEM)}")
        given = {key: value for key, value in item.items() if value is not None}
        number = _whole(f"{where}.number", given.get("number", i + 1))
        room = min(net.num_addresses // 2 for net in networks) - 2
        if not 1 <= number <= min(room, _bundle.MAX_SLOTS):
            raise p.ParameterError(f"{where}.number", number, f"the network has room for the numbers 1 to {room}")
        last = wanted["port"] + number - 1
        if not 1 <= wanted["port"] <= last <= 65535:
            raise p.ParameterError(
                "port", wanted["port"], f"tunnel {number} would have the port {last}; 1 to 65535 exist"
            )
        pinned = [(number - 1) % (cores or 1)] if wanted.get("pin") else []
        result.append(
            {
                "number": number,
                "rate": _rate(*((f"{where}.rate", given["rate"]) if "rate" in given else ("rate", wanted.get("rate")))),
                "cpus": _cpus(f"{where}.cpus", given.get("cpus"), None if wanted.get("leaving") else cores) or pinned,
                "weight": _whole(f"{where}.weight", given.get("weight", 1)),
            }
        )
    p.unique("tunnels.number", (item["number"] for item in result))
    return result


def _whole(parameter: str, value: t.Any) -> int:
    """A number that a template may have made text of."""
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
        raise p.ParameterError(parameter, value, "give a list of the numbers of CPUs")
    cpus = [_whole(parameter, one) for one in value or []]
    if any(one < 0 or (cores and one >= cores) for one in cpus):
        raise p.ParameterError(
            parameter, value, f"this host has the CPUs 0 to {cores - 1}" if cores else "0 is the first"
        )
    return cpus


def _mtu(wanted: t.Mapping[str, t.Any], version: int) -> int:
    return int(wanted["outer_mtu"]) - OVERHEAD[version] - (ETHERNET if wanted["device_type"] == "tap" else 0)


def _tunnel(name: str, wanted: t.Mapping[str, t.Any], item: Data, own: list[Network], other: list[Network]) -> Data:
    number = item["number"]
    return {
        "number": number,
        "device": f"{name}-{number}",
        "port": wanted["port"] + number - 1,
        "mark": (wanted.get("first_mark") or wanted["port"]) + number - 1,
        "weight": item["weight"],
        "rate": item["rate"],
        "addresses": [{"local": str(a[number + 1]), "peer": str(b[number + 1])} for a, b in zip(own, other)],
    }


def _retired(former: t.Iterable[Data], before: t.Iterable[Data], bundle: Data) -> list[Data]:
    """Tunnels that there were, and are not wanted now; also those of a run that did not come to its end."""
    kept = {key: {tunnel[key] for tunnel in bundle["tunnels"]} for key in ("number", "device", "port", "mark")}
    taken = {one for tunnel in bundle["tunnels"] for pair in tunnel["addresses"] for one in pair.values()}
    found: dict[int, Data] = {}
    for tunnel in [*before, *(tunnel for one in former for tunnel in one["tunnels"])]:
        if tunnel["number"] not in kept["number"]:
            found[tunnel["number"]] = {**tunnel}
    # What others have now cannot be kept for a moment longer: it goes without being drained.
    for tunnel in found.values():
        clash = any(tunnel[key] in numbers for key, numbers in kept.items()) or tunnel["port"] == bundle["probe_port"]
        clash = clash or any(one in taken for pair in tunnel["addresses"] for one in pair.values())
        tunnel["drained"] = not clash
    return list(found.values())
