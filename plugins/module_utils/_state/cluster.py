# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The desired state of a cluster on one host, as the file holds it.

Parts that are parameters of a module have the module's names and units: C(cluster), C(addresses) and C(nodes) those of
C(clusterip), C(namespaces) of C(netns), C(veths) of C(veth), C(bridges) of C(bridge). Members that have a default
may be missing: earlier releases did not write them.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from . import defaults
from . import values as v
from .schema import omitted

Claims = t.Literal["exact", "keep"]
Uplink = t.Literal["routed", "bridged", "local"]
Protocol = t.Literal["udp", "tcp"]


@dataclass(frozen=True)
class Service:
    """A port of the service addresses that is served."""

    protocol: Protocol
    port: v.Port


@dataclass(frozen=True)
class Settings:
    """Parameters of the module C(clusterip) that all service addresses of the cluster share."""

    address: v.Address
    interface: v.Interface
    bridge: v.MaybeInterface
    clustermac: v.ClusterMac
    services: tuple[Service, ...]
    uplink: Uplink = defaults.UPLINK
    shared: bool = False
    distribution: t.Literal["steer", "flood"] = defaults.DISTRIBUTION
    hashmode: t.Literal["sourceip", "sourceip-sourceport", "sourceip-sourceport-destport"] = defaults.HASHMODE
    engine: t.Literal["nftables", "xt_cluster", "clusterip", "auto"] = defaults.ENGINE
    hash_as: t.Literal["nftables", "xt_cluster", "clusterip", ""] = ""  # "": the engine's own
    force: bool = False
    forward_ipv6: bool = False
    hash_init: int = defaults.HASH_INIT
    total_nodes: v.Bucket = defaults.TOTAL_NODES


@dataclass(frozen=True)
class ServiceAddress:
    """A service address and the MAC address that ARP requests for it are answered with."""

    address: v.Address
    clustermac: v.ClusterMac


@dataclass(frozen=True)
class Node:
    """A member with its buckets. The host itself has neither namespace nor MAC address of its own."""

    local_nodes: tuple[v.Bucket, ...]
    netns: v.MaybeNetns = omitted("")
    mac: v.Mac = omitted("")


@dataclass(frozen=True)
class Failover:
    """How the claims service follows keepalived, and how it checks members. Times are in seconds."""

    placeholders: v.NetworkIPv4  # addresses that keepalived adds to the loopback: the last byte is the slot
    slots: v.Number
    linger: float
    command: tuple[str, ...]
    interval: float
    timeout: float
    fall: int
    rise: int


@dataclass(frozen=True)
class Member:
    """A member with its settings. Only members on a bridge have addresses and a MAC address of their own."""

    name: v.Netns
    number: v.Number
    weight: int
    cpus: tuple[int, ...]
    local_nodes: tuple[v.Bucket, ...]
    mac: v.Mac
    address: t.Optional[v.Address] = omitted(None)
    ipv6_address: t.Optional[v.Address] = omitted(None)


@dataclass(frozen=True)
class Namespace:
    """A network namespace."""

    name: v.Netns
    sysctls: dict[str, str]


@dataclass(frozen=True)
class Route:
    """A route by way of a gateway."""

    dst: v.Destination
    via: v.Address


@dataclass(frozen=True)
class Peer:
    """The end of a link that is in the member."""

    name: v.Interface
    netns: v.Netns
    mac: v.Mac
    addresses: tuple[v.InterfaceAddress, ...]
    routes: tuple[Route, ...]
    mtu: t.Optional[int] = omitted(None)


@dataclass(frozen=True)
class Veth:
    """A link between the host and a member."""

    name: v.Interface
    peer: Peer
    mac: t.Optional[v.Mac] = omitted(None)
    mtu: t.Optional[int] = omitted(None)


@dataclass(frozen=True)
class FdbEntry:
    """A MAC address and the port of the bridge that leads to it."""

    mac: v.Mac
    port: v.Interface


@dataclass(frozen=True)
class Bridge:
    """The bridge that joins the members. C(exclusive): it is the cluster's own."""

    name: v.Interface
    ports: tuple[v.Interface, ...]
    routes: tuple[Route, ...]
    mac: t.Optional[v.Mac] = omitted(None)
    addresses: tuple[v.InterfaceAddress, ...] = omitted(())
    fdb: tuple[FdbEntry, ...] = omitted(())
    exclusive: bool = omitted(True)
    mcast_snooping: bool = omitted(False)
    flood: bool = omitted(True)
    learning: bool = omitted(True)


@dataclass(frozen=True)
class Server:
    """An OpenVPN server in a member. C(netns) "" is the host itself."""

    name: str
    netns: v.MaybeNetns
    cpus: tuple[int, ...]
    protocol: Protocol
    port: v.Port
    network: v.Network
    device: v.Interface
    local: t.Optional[v.Address] = omitted(None)
    dual_stack: bool = omitted(False)
    network_ipv6: t.Optional[v.Network] = omitted(None)
    extra_options: tuple[str, ...] = omitted(())


@dataclass(frozen=True)
class Holder:
    """A server and the buckets of its member: other clients are disconnected, so that they reach their new member."""

    name: str
    port: v.Port
    local_nodes: tuple[v.Bucket, ...]


@dataclass(frozen=True)
class FormerCluster(Settings):
    """A service address that the cluster no longer has, with the members that had it."""

    nodes: tuple[Node, ...] = ()


@dataclass(frozen=True)
class TakenInterface:
    """A NIC that was made a port of a bridge, and is to leave it."""

    bridge: v.Interface
    interface: v.Interface


@dataclass(frozen=True)
class Retired:
    """Resources of earlier states that are not yet removed."""

    clusters: tuple[FormerCluster, ...] = ()
    failover: t.Optional[Failover] = None
    servers: tuple[Server, ...] = ()
    in_the_way: tuple[Server, ...] = ()  # servers that must stop before a new one can start
    veths: tuple[Veth, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    former_bridges: tuple[Bridge, ...] = ()
    nics: tuple[TakenInterface, ...] = ()
    bridges: tuple[Bridge, ...] = ()  # the bridge with leaving members, which serve until their buckets have moved
    left: tuple[Bridge, ...] = ()  # ports and routes of leaving members, on a bridge that is not the cluster's own


@dataclass(frozen=True)
class ClusterState:
    """Everything that a cluster consists of on this host."""

    name: str
    cluster: Settings
    members: tuple[Member, ...]
    nodes: tuple[Node, ...]
    namespaces: tuple[Namespace, ...]
    veths: tuple[Veth, ...]
    bridges: tuple[Bridge, ...]
    servers: tuple[Server, ...]
    addresses: tuple[ServiceAddress, ...] = ()
    claims: Claims = "exact"
    failover: t.Optional[Failover] = None
    take_interface: bool = False
    holders: tuple[Holder, ...] = ()
    push: tuple[str, ...] = ()  # options that servers push to their clients
    retired: Retired = Retired()
