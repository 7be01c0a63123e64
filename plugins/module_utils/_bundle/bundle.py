# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bundle of tunnels as one end is to have it: validated parameters, and the nftables table that spreads them. Pure.

The tunnels that are in the spread are its state at run time: the comment of the rule that spreads says which they are,
and who plans the table takes them from there, so that only the watch of the tunnels ever decides about them.
"""

from __future__ import annotations

import ipaddress
import math
import re
import typing as t
from dataclasses import dataclass

from .. import _params as p
from .._cluster.cluster import cluster_name

MAX_TUNNELS = 64
MAX_SLOTS = 1024  # weights without a common divisor: more than that says nothing, and makes rules long
MTU = (1280, 65535)  # IPv6 needs the former
TIMEOUT = (0.2, 60.0)
MARK_MAX = 0xFFFFFFFF
RATE_MAX = 100_000.0  # Mbit/s

TUNNEL_OPTIONS: dict[str, t.Any] = {
    "number": {"type": "int", "required": True},
    "device": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "mark": {"type": "int", "required": True},
    "weight": {"type": "int", "default": 1},
    "rate": {"type": "float", "default": 0},
    "addresses": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {"local": {"type": "str", "required": True}, "peer": {"type": "str", "required": True}},
    },
}


@dataclass(frozen=True)
class Pair:
    """The two addresses of a tunnel: this end's, and the other's."""

    local: str
    peer: str

    @property
    def family(self) -> str:
        """As nftables calls it."""
        return family(self.local)


@dataclass(frozen=True)
class Tunnel:
    """One tunnel. C(mark): what its packets are marked with, which is its routing table's number as well."""

    number: int
    device: str
    port: int
    mark: int
    weight: int
    rate: int  # bits in a second; 0: no limit
    pairs: tuple[Pair, ...]

    @property
    def probed(self) -> Pair:
        """The addresses that the watch uses; IPv4, which every tunnel has."""
        return next(pair for pair in self.pairs if pair.family == "ip")

    def pair(self, wanted: str) -> Pair | None:
        """Its addresses of a family."""
        return next((pair for pair in self.pairs if pair.family == wanted), None)


@dataclass(frozen=True)
class Bundle:
    """One end of a bundle."""

    name: str
    tunnels: tuple[Tunnel, ...]
    networks: tuple[str, ...]  # what is behind the other end, its addresses in the bundle included
    netns: str = ""
    device_type: str = "tun"
    spread: str = "per_packet"
    snat: str = "none"
    addresses: tuple[str, ...] = ()  # this end's in the bundle, whatever tunnel packets take
    former_addresses: tuple[str, ...] = ()  # to be taken away
    mtu: int = 1448
    queue: int = 1000
    user: str = "openvpn"
    group: str = "openvpn"
    timeout: float = 1.2  # seconds; 0: no tunnel ever leaves the spread
    probe_port: int = 11940
    reordering: int = 0
    congestion_control: str = ""
    rule_priority: int = 10000

    @property
    def table(self) -> str:
        """Of nftables. No cluster's name has a dot, so none of theirs is called like this."""
        return f"clustered_openvpn_{self.name}.bundle"

    @property
    def alias(self) -> str:
        """The devices' remark by which they are known as this bundle's."""
        return f"clustered.openvpn bundle {self.name}"

    @property
    def families(self) -> list[str]:
        """Those that the tunnels have addresses of."""
        return [one for one in ("ip", "ip6") if any(tunnel.pair(one) for tunnel in self.tunnels)]

    def of_family(self, wanted: str) -> list[str]:
        """The networks of a family."""
        return [network for network in self.networks if family(network) == wanted]


def family(address: str) -> str:
    """ip or ip6."""
    return "ip6" if ":" in address else "ip"


# --- parameters -------------------------------------------------------------------------------------------------------


def bundle_from(params: t.Mapping[str, t.Any]) -> Bundle:
    """Parameters of the module -> a bundle. Raises ParameterError."""
    name = cluster_name("name", params["name"])
    netns = p.netns_name("netns", params.get("netns"), allow_empty=True)
    tunnels = tuple(_tunnel(f"tunnels[{i}]", item) for i, item in enumerate(params["tunnels"]))
    if not 1 <= len(tunnels) <= MAX_TUNNELS:
        raise p.ParameterError("tunnels", len(tunnels), f"a bundle has 1 to {MAX_TUNNELS} tunnels")
    for key in ("number", "device", "port", "mark"):
        p.unique(f"tunnels[].{key}", (getattr(tunnel, key) for tunnel in tunnels))
    p.unique("tunnels[].addresses", (one for tunnel in tunnels for x in tunnel.pairs for one in (x.local, x.peer)))
    slots({tunnel.number: tunnel.weight for tunnel in tunnels})
    networks = tuple(str(p.network(f"networks[{i}]", net)) for i, net in enumerate(params["networks"]))
    if not networks:
        raise p.ParameterError("networks", [], "name the networks behind the other end")
    p.unique("networks", networks)
    addresses = tuple(p.address("addresses", one) for one in params.get("addresses") or [])
    p.unique("addresses", map(family, addresses))
    result = Bundle(
        name=name,
        tunnels=tunnels,
        networks=networks,
        netns=netns,
        addresses=addresses,
        former_addresses=tuple(p.address("former_addresses", one) for one in params.get("former_addresses") or []),
        mtu=_within("mtu", params["mtu"], *MTU),
        queue=_within("queue", params["queue"], 1, 100000),
        timeout=_timeout(params["timeout"]),
        probe_port=_within("probe_port", params["probe_port"], 1, 65535),
        reordering=_within("reordering", params["reordering"], 0, 300),
        rule_priority=_within("rule_priority", params["rule_priority"], 1, 32765),
        congestion_control=_word("congestion_control", params["congestion_control"] or ""),
        user=_word("user", params["user"]),
        group=_word("group", params["group"]),
        **{key: params[key] for key in ("device_type", "spread", "snat")},
    )
    _fits(result)
    return result


def _tunnel(where: str, item: t.Mapping[str, t.Any]) -> Tunnel:
    pairs = tuple(
        Pair(p.address(f"{where}.addresses.local", one["local"]), p.address(f"{where}.addresses.peer", one["peer"]))
        for one in item["addresses"]
    )
    for pair in pairs:
        if family(pair.peer) != pair.family:
            raise p.ParameterError(f"{where}.addresses.peer", pair.peer, f"must be of the family of {pair.local}")
    p.unique(f"{where}.addresses", (pair.family for pair in pairs))
    if "ip" not in [pair.family for pair in pairs]:
        raise p.ParameterError(f"{where}.addresses", [], "give a pair of IPv4 addresses; the probes need them")
    return Tunnel(
        number=_within(f"{where}.number", item["number"], 1, MAX_SLOTS),
        device=p.interface_name(f"{where}.device", item["device"]),
        port=_within(f"{where}.port", item["port"], 1, 65535),
        mark=_within(f"{where}.mark", item["mark"], 256, MARK_MAX),  # tables up to 255 are the system's
        weight=_within(f"{where}.weight", item.get("weight", 1), 0, MAX_SLOTS),
        rate=_rate(f"{where}.rate", item.get("rate") or 0),
        pairs=pairs,
    )


def _fits(bundle: Bundle) -> None:
    if bundle.timeout and bundle.probe_port in [tunnel.port for tunnel in bundle.tunnels]:
        raise p.ParameterError(
            "probe_port", bundle.probe_port, "a tunnel has this port; choose another one for the watch"
        )
    for net in bundle.networks:
        if family(net) not in bundle.families:
            raise p.ParameterError(
                "networks", net, "the tunnels have no IPv6 addresses; give them some, or leave it out"
            )
        own = [*bundle.addresses, *(pair.local for tunnel in bundle.tunnels for pair in tunnel.pairs)]
        for one in own:
            if ipaddress.ip_address(one) in ipaddress.ip_network(net):
                raise p.ParameterError("networks", net, f"holds {one}, an address of this end; choose another network")


def _within(parameter: str, value: int, lowest: int, highest: int) -> int:
    if not lowest <= value <= highest:
        raise p.ParameterError(parameter, value, f"give a number from {lowest} to {highest}")
    return value


def _rate(parameter: str, value: float) -> int:
    if value and not 0.1 <= value <= RATE_MAX:
        raise p.ParameterError(parameter, value, f"give Mbit/s from 0.1 to {RATE_MAX:g}, or 0 for no limit")
    return round(value * 125_000) * 8  # tc counts bytes


def _timeout(value: float) -> float:
    if value and not TIMEOUT[0] <= value <= TIMEOUT[1]:
        raise p.ParameterError(
            "timeout", value, f"give seconds from {TIMEOUT[0]:g} to {TIMEOUT[1]:g}, or 0 to watch nothing"
        )
    return float(value)


def _word(parameter: str, value: str) -> str:
    if value and not re.match(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\Z", value):
        raise p.ParameterError(parameter, value, "give a name of letters, digits, hyphens, dots and underscores")
    return value


# --- the spread -------------------------------------------------------------------------------------------------------


def slots(weights: t.Mapping[int, int]) -> list[int]:
    """Tunnels in the order in which packets are dealt to them, each as often as its weight says, and evenly."""
    if not any(weights.values()):
        raise p.ParameterError(
            "tunnels[].weight", list(weights.values()), "give one tunnel at least a weight above 0, or nothing is sent"
        )
    divisor = math.gcd(*weights.values())
    shares = {number: weight // divisor for number, weight in weights.items() if weight}
    total = sum(shares.values())
    if total > MAX_SLOTS:
        raise p.ParameterError(
            "tunnels[].weight", list(weights.values()), f"take smaller ones: their sum may be {MAX_SLOTS}"
        )
    credit = dict.fromkeys(shares, 0)
    dealt = []
    for _slot in range(total):  # smooth weighted round robin
        for number, share in shares.items():
            credit[number] += share
        best = max(credit, key=lambda number: credit[number])
        credit[best] -= total
        dealt.append(best)
    return dealt
