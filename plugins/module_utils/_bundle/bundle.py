# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One end of a bundle of tunnels: the parameters of the module tunnel_bundle, validated. Pure.

Which tunnels are alive is run-time state and not part of it: the watch alone decides that (see spread).
"""

from __future__ import annotations

import ipaddress
import re
import typing as t
from dataclasses import dataclass

from .. import _params as p
from .._cluster.cluster import cluster_name
from .weights import MAX_SLOTS, packet_slots

WATCH_UNIT = "clustered-openvpn-watch"  # template of the systemd unit
MAX_TUNNELS = 64
MTU = (1280, 65535)  # the minimum of IPv6
TIMEOUT = (0.2, 60.0)
MARK_MIN, MARK_MAX = 256, 0xFFFFFFFF  # marks are routing tables, too: those up to 255 belong to the system
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
# Options of the module, and fields of each bundle in the desired state.
BUNDLE_OPTIONS: dict[str, t.Any] = {
    "name": {"type": "str", "required": True},
    "netns": {"type": "str"},
    "tunnels": {"type": "list", "elements": "dict", "required": True, "options": TUNNEL_OPTIONS},
    "networks": {"type": "list", "elements": "str", "required": True},
    "addresses": {"type": "list", "elements": "str", "default": []},
    "former_addresses": {"type": "list", "elements": "str", "default": []},
    "device_type": {"type": "str", "choices": ["tun", "tap"], "default": "tun"},
    "spread": {"type": "str", "choices": ["per_packet", "per_flow"], "default": "per_packet"},
    "snat": {"type": "str", "choices": ["none", "common", "tunnel"], "default": "none"},
    "mtu": {"type": "int", "default": 1448},
    "queue": {"type": "int", "default": 1000},
    "user": {"type": "str", "default": "openvpn"},
    "group": {"type": "str", "default": "openvpn"},
    "timeout": {"type": "float", "default": 1.2},
    "probe_port": {"type": "int", "default": 11940},
    "reordering": {"type": "int", "default": 0},
    "congestion_control": {"type": "str", "default": ""},
    "rule_priority": {"type": "int", "default": 10000},
}


@dataclass(frozen=True)
class Pair:
    """The addresses of a tunnel in one family: this end's, and the other end's."""

    local: str
    peer: str

    @property
    def family(self) -> str:
        """The nftables family, ip or ip6."""
        return family(self.local)


@dataclass(frozen=True)
class Tunnel:
    """One tunnel. C(mark) is the mark of its packets and the number of its routing table."""

    number: int
    device: str
    port: int
    mark: int
    weight: int
    rate: int  # bits per second; 0: no limit
    pairs: tuple[Pair, ...]

    @property
    def probed(self) -> Pair:
        """The addresses that the probes use: IPv4, which every tunnel has."""
        return next(pair for pair in self.pairs if pair.family == "ip")

    def pair(self, one: str) -> Pair | None:
        """The addresses in a family; None if the tunnel has none."""
        return next((pair for pair in self.pairs if pair.family == one), None)


@dataclass(frozen=True)
class Bundle:
    """One end of a bundle."""

    name: str
    tunnels: tuple[Tunnel, ...]
    networks: tuple[str, ...]  # behind the other end, and its half of the bundle's network
    netns: str  # "": the host's own
    device_type: str
    spread: str
    snat: str
    addresses: tuple[str, ...]  # this end's, one per family, independent of the tunnel that a packet takes
    former_addresses: tuple[str, ...]  # to be removed
    mtu: int
    queue: int
    user: str
    group: str
    timeout: float  # seconds; 0: tunnels are not watched, and none leaves the spread
    probe_port: int
    reordering: int
    congestion_control: str
    rule_priority: int

    @property
    def table(self) -> str:
        """Name of the nftables table. The dot keeps it apart from the tables of clusters, whose names have none."""
        return f"clustered_openvpn_{self.name}.bundle"

    @property
    def alias(self) -> str:
        """The alias (C(ip link set … alias)) that marks devices as this bundle's."""
        return f"clustered.openvpn bundle {self.name}"

    @property
    def watch_unit(self) -> str:
        """The systemd unit that watches the tunnels."""
        return f"{WATCH_UNIT}@{self.name}.service"

    @property
    def families(self) -> list[str]:
        """The families in which tunnels have addresses."""
        return [one for one in ("ip", "ip6") if any(tunnel.pair(one) for tunnel in self.tunnels)]

    def of_family(self, one: str) -> list[str]:
        """The networks of a family."""
        return [network for network in self.networks if family(network) == one]


def family(address: str) -> str:
    """The nftables family of an address or a network: ip or ip6."""
    return "ip6" if ":" in address else "ip"


# --- parameters -------------------------------------------------------------------------------------------------------


def bundle_from(params: t.Mapping[str, t.Any]) -> Bundle:
    """BUNDLE_OPTIONS with their values -> a bundle. Raises ParameterError."""
    name = cluster_name("name", params["name"])
    netns = p.netns_name("netns", params.get("netns"), allow_empty=True)
    tunnels = tuple(_tunnel(f"tunnels[{i}]", item) for i, item in enumerate(params["tunnels"]))
    if not 1 <= len(tunnels) <= MAX_TUNNELS:
        raise p.ParameterError("tunnels", len(tunnels), f"a bundle has 1 to {MAX_TUNNELS} tunnels")
    for key in ("number", "device", "port", "mark"):
        p.unique(f"tunnels[].{key}", (getattr(tunnel, key) for tunnel in tunnels))
    p.unique("tunnels[].addresses", (one for tunnel in tunnels for x in tunnel.pairs for one in (x.local, x.peer)))
    packet_slots({tunnel.number: tunnel.weight for tunnel in tunnels})  # refuses weights that cannot be used
    networks = tuple(str(p.network(f"networks[{i}]", net)) for i, net in enumerate(params["networks"]))
    if not networks:
        raise p.ParameterError("networks", [], "list the networks behind the other end")
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
        congestion_control=_name("congestion_control", params["congestion_control"] or ""),
        user=_name("user", params["user"]),
        group=_name("group", params["group"]),
        **{key: params[key] for key in ("device_type", "spread", "snat")},
    )
    _check_consistency(result)
    return result


def _tunnel(where: str, item: t.Mapping[str, t.Any]) -> Tunnel:
    pairs = tuple(
        Pair(p.address(f"{where}.addresses.local", one["local"]), p.address(f"{where}.addresses.peer", one["peer"]))
        for one in item["addresses"]
    )
    for pair in pairs:
        if family(pair.peer) != pair.family:
            raise p.ParameterError(
                f"{where}.addresses.peer", pair.peer, f"give an address of the same family as {pair.local}"
            )
    p.unique(f"{where}.addresses", (pair.family for pair in pairs))
    if "ip" not in [pair.family for pair in pairs]:
        raise p.ParameterError(f"{where}.addresses", [], "add a pair of IPv4 addresses; the probes need them")
    return Tunnel(
        number=_within(f"{where}.number", item["number"], 1, MAX_SLOTS),
        device=p.interface_name(f"{where}.device", item["device"]),
        port=_within(f"{where}.port", item["port"], 1, 65535),
        mark=_within(f"{where}.mark", item["mark"], MARK_MIN, MARK_MAX),
        weight=_within(f"{where}.weight", item.get("weight", 1), 0, MAX_SLOTS),
        rate=_rate(f"{where}.rate", item.get("rate") or 0),
        pairs=pairs,
    )


def _check_consistency(bundle: Bundle) -> None:
    if bundle.timeout and bundle.probe_port in [tunnel.port for tunnel in bundle.tunnels]:
        raise p.ParameterError(
            "probe_port", bundle.probe_port, "this is the port of a tunnel; choose another port for the probes"
        )
    for net in bundle.networks:
        if family(net) not in bundle.families:
            raise p.ParameterError(
                "networks", net, "the tunnels have no IPv6 addresses; add some, or remove this network"
            )
        own = [*bundle.addresses, *(pair.local for tunnel in bundle.tunnels for pair in tunnel.pairs)]
        for one in own:
            if ipaddress.ip_address(one) in ipaddress.ip_network(net):
                raise p.ParameterError(
                    "networks", net, f"contains {one}, an address of this end; choose another network"
                )


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
            "timeout", value, f"give seconds from {TIMEOUT[0]:g} to {TIMEOUT[1]:g}, or 0 to switch the watch off"
        )
    return float(value)


def _name(parameter: str, value: str) -> str:
    if value and not re.match(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\Z", value):
        raise p.ParameterError(parameter, value, "give a name of letters, digits, hyphens, dots and underscores")
    return value
