# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A kernel in memory, for tests of planners: it carries out steps and returns the same views as the real one.

Steps that the real kernel would refuse raise an error.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
import typing as t
from dataclasses import replace

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.cluster import Cluster
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.parameters import cluster_from
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.observed import RTPROT_STATIC, Link, Route, View
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.steps import Step

MACS = [f"02:00:00:00:00:{i:02x}" for i in range(5)]


def a_cluster(**changes: t.Any) -> Cluster:
    """Two members with two buckets each; C(changes) are parameters of the clusterip module."""
    params = {
        "name": "vpn",
        "address": "192.0.2.10",
        "interface": "nic",
        "uplink": "routed",
        "shared": False,
        "bridge": "br-vpn",
        "clustermac": None,
        "distribution": "steer",
        "engine": "nftables",
        "hash_as": None,
        "hashmode": "sourceip",
        "force": False,
        "forward_ipv6": False,
        "hash_init": 0x1234,
        "total_nodes": 4,
        "nodes": [
            {"netns": "vpn1", "mac": MACS[1], "local_nodes": [1, 2]},
            {"netns": "vpn2", "mac": MACS[2], "local_nodes": [3, 4]},
        ],
        "services": [{"protocol": "udp", "port": 1194}],
        "claims": "exact",
        "state": "present",
    }
    return cluster_from({**params, **changes})


class _Views(dict):
    def __missing__(self, netns: str) -> View:
        return View(netns)


class _Listings(dict):
    def __missing__(self, key: tuple[str, str, str]) -> None:
        return None


class Model:
    """Namespaces with links, and nft tables."""

    def __init__(self, *netnses: str):
        self.views = _Views()
        self._addresses: dict[tuple[str, str], list[str]] = {}  # in order: of a network, the first is the primary
        self._tables: dict[tuple[str, str, str], dict[str, t.Any]] = {}
        self._index = itertools.count(1)
        self._netns("")
        for netns in netnses:
            self._netns(netns)

    def apply(self, steps: t.Iterable[Step]) -> None:
        """Carry out steps."""
        for step in steps:
            getattr(self, "_" + step.op)(step.netns, **step.args)

    def add(self, netns: str, dev: str, kind: str | None = None, **attributes: t.Any) -> None:
        """Add a link."""
        index = next(self._index)
        defaults = {"index": index, "mac": f"fe:00:00:00:00:{index % 256:02x}", "mtu": 1500}
        link = Link(dev, kind, **{**defaults, **attributes})
        assert dev not in self.views[netns].links, f"{dev}: File exists"
        self._put(netns, link)
        self._addresses[netns, dev] = []

    @property
    def listings(self) -> t.Mapping[tuple[str, str, str], list[dict[str, t.Any]] | None]:
        """The tables in the form of C(nft -j list table)."""
        return _Listings({key: _listed(*key[1:], table) for key, table in self._tables.items()})

    # --- namespaces and links

    def _netns(self, netns: str) -> None:
        assert not self.views[netns].exists, "File exists"
        self.views[netns] = View(netns, True)
        self.add(netns, "lo")

    def _put(self, netns: str, link: Link) -> None:
        view = self.views[netns]
        assert view.exists, f"no namespace {netns}"
        self.views[netns] = replace(view, links={**view.links, link.name: link})

    def _change(self, netns: str, dev: str, **attributes: t.Any) -> None:
        self._put(netns, replace(self.views[netns].links[dev], **attributes))

    def _drop(self, netns: str, dev: str) -> None:
        view = self.views[netns]
        self.views[netns] = replace(view, links={n: x for n, x in view.links.items() if n != dev})

    def _netns_add(self, _netns: str, name: str) -> None:
        self._netns(name)

    def _netns_del(self, _netns: str, name: str) -> None:
        for dev in list(self.views[name].links):
            self._link_del(name, dev)
        del self.views[name]

    def _link_del(self, netns: str, dev: str) -> None:
        link = self.views[netns].links[dev]
        self._drop(netns, dev)
        for view in list(self.views.values()):
            for other in view.links.values():
                if link.kind == "veth" and other.index == link.peer_index:
                    self._drop(view.netns, other.name)
                if link.kind == "bridge" and view.netns == netns and other.master == dev:
                    self._link_nomaster(netns, other.name)

    def _veth_add(self, netns: str, dev: str, mac: str, mtu: int, peer: str, **args: t.Any) -> None:
        a, b = next(self._index), next(self._index)
        other = netns if args["peer_netns"] is None else args["peer_netns"]
        given = {k: v for k, v in (("mac", mac), ("mtu", mtu)) if v}
        self.add(netns, dev, "veth", **{**given, "index": a, "peer_index": b})
        given = {k: v for k, v in (("mac", args["peer_mac"]), ("mtu", args["peer_mtu"])) if v}
        self.add(other, peer, "veth", **{**given, "index": b, "peer_index": a})

    def _bridge_add(self, netns: str, dev: str, mac: str, mtu: int, snooping: int) -> None:
        given = {k: v for k, v in (("mac", mac), ("mtu", mtu)) if v}
        self.add(netns, dev, "bridge", mcast_snooping=bool(snooping), **given)

    def _bridge_snooping(self, netns: str, dev: str, snooping: int) -> None:
        self._change(netns, dev, mcast_snooping=bool(snooping))

    def _port_suppress(self, netns: str, dev: str) -> None:
        self._change(netns, dev, neigh_suppress=True)

    def _link_up(self, netns: str, dev: str) -> None:
        self._change(netns, dev, up=True)

    def _link_down(self, netns: str, dev: str) -> None:
        kept = [a for a in self._addresses.get((netns, dev), []) if ":" not in a]
        self._addresses[netns, dev] = kept
        self._change(netns, dev, up=False, routes={}, addresses=frozenset(kept))

    def _link_mac(self, netns: str, dev: str, mac: str) -> None:
        self._change(netns, dev, mac=mac)

    def _link_mtu(self, netns: str, dev: str, mtu: int) -> None:
        self._change(netns, dev, mtu=mtu)

    def _link_master(self, netns: str, dev: str, master: str) -> None:
        assert self.views[netns].links[master].kind == "bridge"
        self._change(netns, dev, master=master, fdb=frozenset(), flood=True, learning=True)

    def _port_set(self, netns: str, dev: str, flood: str, learning: str) -> None:
        assert self.views[netns].links[dev].master, "Operation not supported"
        self._change(netns, dev, flood=flood == "on", learning=learning == "on")

    def _link_nomaster(self, netns: str, dev: str) -> None:
        self._change(netns, dev, master=None, fdb=frozenset())

    def _fdb_replace(self, netns: str, dev: str, mac: str) -> None:
        """A bridge has one entry per MAC address: it moves to the new port."""
        master = self.views[netns].links[dev].master
        assert master, "Operation not supported"
        for link in list(self.views[netns].links.values()):
            if link.master == master:
                self._change(netns, link.name, fdb=link.fdb - {mac})
        self._change(netns, dev, fdb=self.views[netns].links[dev].fdb | {mac})

    def _fdb_del(self, netns: str, dev: str, mac: str) -> None:
        fdb = self.views[netns].links[dev].fdb
        assert mac in fdb, f"bridge fdb del {mac} dev {dev}: No such file or directory"
        self._change(netns, dev, fdb=fdb - {mac})

    # --- addresses, routes, neighbours

    def _addr_add(self, netns: str, dev: str, address: str) -> None:
        assert address not in self._addresses[netns, dev], "File exists"
        self._addresses[netns, dev].append(address)
        self._change(netns, dev, addresses=frozenset(self._addresses[netns, dev]))

    def _addr_del(self, netns: str, dev: str, address: str) -> None:
        """Removing the first IPv4 address of a network removes the others too, unless they are promoted."""
        net = ipaddress.ip_interface(address).network
        held = self._addresses[netns, dev]
        same = [a for a in held if ipaddress.ip_interface(a).network == net]
        promote = self.views[netns].sysctls.get(f"net/ipv4/conf/{dev}/promote_secondaries") == "1"
        gone = same if net.version == 4 and same[0] == address and not promote else [address]
        self._addresses[netns, dev] = [a for a in held if a not in gone]
        assert address in held, "Cannot assign requested address"
        self._change(netns, dev, addresses=frozenset(self._addresses[netns, dev]))
        if net.version == 4 and not any("." in a for a in self._addresses[netns, dev]):
            # An interface without an IPv4 address loses all of its routes of IPv4.
            routes = self.views[netns].links[dev].routes
            kept = {number: frozenset(r for r in some if ":" in r.dst) for number, some in routes.items()}
            self._change(netns, dev, routes=kept)

    def _route_add(self, netns: str, dev: str, dst: str, **route: t.Any) -> None:
        routes = self.views[netns].links[dev].routes.values()
        assert dst not in {r.dst for some in routes for r in some}, "File exists"
        self._route_replace(netns, dev, dst, **route)

    def _route_replace(self, netns: str, dev: str, dst: str, via: str | None, src: str | None, proto: t.Any) -> None:
        link = self.views[netns].links[dev]
        assert link.up, "Network is down"
        number, routes = self._routes(link, proto)
        direct = [ipaddress.ip_interface(a).network for a in link.addresses]
        direct += [ipaddress.ip_network(r.dst) for r in routes if r.via is None]
        assert via is None or any(ipaddress.ip_address(via) in net for net in direct), "Nexthop has invalid gateway"
        kept = {r for r in routes if r.dst != dst}
        self._change(netns, dev, routes={**link.routes, number: frozenset(kept | {Route(dst, via, src)})})

    def _route_del(self, netns: str, dev: str, dst: str, via: str | None, proto: t.Any) -> None:
        link = self.views[netns].links[dev]
        number, routes = self._routes(link, proto)
        kept = {r for r in routes if (r.dst, r.via) != (dst, via)}
        assert kept != routes, "No such process"
        self._change(netns, dev, routes={**link.routes, number: frozenset(kept)})

    @staticmethod
    def _routes(link: Link, proto: t.Any) -> tuple[int, frozenset[Route]]:
        number = RTPROT_STATIC if proto == "static" else proto
        return number, link.routes.get(number, frozenset())

    def _neigh_replace(self, netns: str, dev: str, address: str, lladdr: str) -> None:
        self._change(netns, dev, neighbours={**self.views[netns].links[dev].neighbours, address: lladdr})

    def _neigh_del(self, netns: str, dev: str, address: str) -> None:
        neighbours = dict(self.views[netns].links[dev].neighbours)
        del neighbours[address]
        self._change(netns, dev, neighbours=neighbours)

    def _proxy_add(self, netns: str, dev: str, address: str) -> None:
        self._change(netns, dev, proxies=self.views[netns].links[dev].proxies | {address})

    def _proxy_del(self, netns: str, dev: str, address: str) -> None:
        proxies = self.views[netns].links[dev].proxies
        assert address in proxies, "No such file or directory"
        self._change(netns, dev, proxies=proxies - {address})

    def _sysctl(self, netns: str, key: str, value: str) -> None:
        view = self.views[netns]
        assert view.exists, f"no namespace {netns}"
        self.views[netns] = replace(view, sysctls={**view.sysctls, key: value})

    # --- nft

    def _nft(self, netns: str, lines: t.Iterable[str]) -> None:
        for line in lines:
            verb, kind, family, name, rest = re.match(r"(\w+) (\w+) (\w+) (\S+) ?(.*)", line).groups()
            key = (netns, family, name)
            if kind == "table" and verb == "add":
                self._tables[key] = {"map": {}, "set": {}, "chain": {}, "hooked": set()}
            elif kind == "table":
                del self._tables[key]
            else:
                name, _blank, rest = rest.partition(" ")
                _nft_in(self._tables[key], verb, kind, name, rest)


def _nft_in(table: dict[str, t.Any], verb: str, kind: str, name: str, rest: str) -> None:
    if kind == "element":
        held = table["map"].get(name, table["set"].get(name))
        for text in rest.strip("{} ").split(", "):
            key, _colon, value = text.partition(" : ")
            if verb == "delete":
                del held[int(key)]
            else:
                assert held.setdefault(int(key), value) == value, f"{text}: File exists"
    elif kind == "rule":
        fwd = re.search(r'fwd to "(\S+)"', rest)
        expr = [{"fwd": {"dev": fwd[1]}}] if fwd else []
        table["chain"][name].append({"comment": re.search(r'comment "(.*)"$', rest)[1], "expr": expr})
    elif verb == "flush":
        table[kind][name].clear()
    elif verb == "delete":
        held = table[kind].pop(name)
        assert kind != "chain" or not held, "Device or resource busy"
    else:
        assert name not in table[kind], "File exists"
        table[kind][name] = [] if kind == "chain" else {}
        if "hook" in rest:
            table["hooked"].add(name)


def _listed(family: str, name: str, table: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    maps = [{"map": {"name": n, "elem": [[k, v] for k, v in e.items()]}} for n, e in table["map"].items()]
    maps += [{"set": {"name": n, "elem": list(e)}} for n, e in table["set"].items()]
    chains = [{"chain": {"name": n, **({"policy": "accept"} if n in table["hooked"] else {})}} for n in table["chain"]]
    rules = [{"rule": {"chain": n, **rule}} for n, rules in table["chain"].items() for rule in rules]
    return [{"metainfo": {}}, {"table": {"family": family, "name": name}}, *maps, *chains, *rules]
