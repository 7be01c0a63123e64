# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Drift of a cluster, one change at a time: the next run repairs it, and every client is served as before.

For the instances see test_openvpn_instance.py: a process that was killed, one in a namespace that was recreated,
configuration files that were edited.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import typing as t
from dataclasses import dataclass

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.parameters import cluster_from
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.uplinks.registry import uplink_of

from .served import ServedWorld, State, differences, differences_at_last, states_of
from .test_packets import ADDRESS, PORT, Built, client_address
from .world import Echo, ask_tcp, sh, within

CLIENTS = 8
PARAMETERS = {"name": "vpn", "nodes": [], "claims": "keep", "state": "present"}  # of clusterip, besides the layout's
# Names of the cluster's parts: {host} and {one} are namespaces, {mac} and {port} those of the first member.
NAMESPACES = {
    "namespace deleted": "ip netns del {one}",
    "namespace deleted and made again by hand": "ip netns del {one} && ip netns add {one}; ip -n {one} link set lo up",
    "all namespaces deleted": "ip netns del {one} && ip netns del {two} && ip netns del {three}",
}
EVERYWHERE = {
    **NAMESPACES,
    "host's end of a veth removed": "ip -n {host} link del {port}",
    "member's end of a veth removed": "ip -n {one} link del eth0",
    "member's end of a veth down and up": "ip -n {one} link set eth0 down; ip -n {one} link set eth0 up",
    "port out of the bridge": "ip -n {host} link set {port} nomaster",
    "service address removed": "ip -n {one} addr del {address}/32 dev lo",
    "own address removed": "ip -n {one} addr flush dev eth0",
    "member's routes removed": "ip -n {one} route flush proto static",
    "FDB entry lost": "bridge -n {host} fdb del {mac} dev {port} master",
    "FDB entry moved": "bridge -n {host} fdb replace {mac} dev {port_two} master static",
    "forwarding of the bridge turned back": "ip netns exec {host} sysctl -w net/ipv4/conf/{bridge}/forwarding=0",
    "forwarding switched on and off": "ip netns exec {host} sysctl -w net.ipv4.ip_forward=1 net.ipv4.ip_forward=0",
    "member's sysctl turned back": "ip netns exec {one} sysctl -w net.ipv4.conf.all.arp_ignore=0",
    "route to the address deleted": "ip -n {host} route del {address}/32",
    "neighbour entry deleted": "ip -n {host} neigh del {address} dev {bridge}",
    "neighbour entry replaced": "ip -n {host} neigh replace {address} lladdr {mac} dev {bridge} nud permanent",
    "route to a slice deleted": "ip -n {host} route del {slice}",
    "host's table deleted": "ip netns exec {host} nft delete table {family} {table}",
    "host's table flushed": "ip netns exec {host} nft flush table {family} {table}",
    "host's ruleset flushed": "ip netns exec {host} nft flush ruleset",
    "member's table deleted": "ip netns exec {one} nft delete table ip {table}",
    "member's table flushed": "ip netns exec {one} nft flush table ip {table}",
    "member's ruleset flushed": "ip netns exec {one} nft flush ruleset",
    "member's policy turned": "ip netns exec {one} nft chain ip {table} service '{{ policy drop; }}'",
    "a rule added": "ip netns exec {host} nft insert rule {family} {table} uplink ip daddr {address} drop",
    "a rule replaced": "{replace}",
    "member's rule replaced": "{replace_in_member}",
    "a chain added": "ip netns exec {host} nft add chain {family} {table} other",
}
# The host's part depends on the uplink.
UPLINK = {
    "routed": {
        "bridge's address removed": "ip -n {host} addr flush dev {bridge}",
        "bridge deleted": "ip -n {host} link del {bridge}",
        "bridge down and up": "ip -n {host} link set {bridge} down; ip -n {host} link set {bridge} up",
        "NIC down and up": "ip -n {host} link set nic0 down; ip -n {host} link set nic0 up",
        "NIC deleted and made again": "{nic}",
        "proxy entry deleted": "ip -n {host} neigh del proxy {address} dev nic0",
        "proxy's delay turned back": "ip netns exec {host} sysctl -w net/ipv4/neigh/nic0/proxy_delay=80",
        "forwarding of the NIC turned back": "ip netns exec {host} sysctl -w net/ipv4/conf/nic0/forwarding=0",
        "host's untracked table deleted": "ip netns exec {host} nft delete table ip {table}",
    },
    "bridged": {
        "port that answers ARP deleted": "ip -n {host} link del arp-{name}",
        "port that answers ARP up": "ip -n {host} link set arp-{name} up",
        "port that answers ARP out of the bridge": "ip -n {host} link set arp-{name} nomaster",
        "port that answers ARP does not": "bridge -n {host} link set dev arp-{name} neigh_suppress off",
        "FDB entry of the address lost": "bridge -n {host} fdb del {answer} dev arp-{name} master",
        "FDB entry of the address moved": "bridge -n {host} fdb replace {answer} dev {port} master static",
        "host's own table deleted": "ip netns exec {host} nft delete table netdev {table}",
        "host's own table flushed": "ip netns exec {host} nft flush table netdev {table}",
    },
}
# The place of the decision: a map of the host, or a set in each member.
DECISION = {
    "steer": {
        "element lost": "ip netns exec {host} nft delete element {family} {table} owner '{{ {bucket} }}'",
        "element moved": (
            "ip netns exec {host} nft delete element {family} {table} owner '{{ {bucket} }}'"
            " && ip netns exec {host} nft add element {family} {table} owner '{{ {bucket} : {mac_two} }}'"
        ),
        "element added": "ip netns exec {host} nft add element {family} {table} owner '{{ 1000 : {mac} }}'",
        "elements flushed": "ip netns exec {host} nft flush map {family} {table} owner",
    },
    "flood": {
        "element lost": "ip netns exec {one} nft delete element netdev {table} owned '{{ {bucket} }}'",
        "element moved": (
            "ip netns exec {one} nft delete element netdev {table} owned '{{ {bucket} }}'"
            " && ip netns exec {two} nft add element netdev {table} owned '{{ {bucket} }}'"
        ),
        "element added": "ip netns exec {two} nft add element netdev {table} owned '{{ {bucket} }}'",
        "elements flushed": "ip netns exec {one} nft flush set netdev {table} owned",
        "deciding table deleted": "ip netns exec {one} nft delete table netdev {table}",
        "deciding table flushed": "ip netns exec {one} nft flush table netdev {table}",
    },
}
Form = tuple[str, str]
FORMS = [(uplink, distribution) for uplink in UPLINK for distribution in DECISION]
# Two forms that have nothing in common run all cases, the others only their own.
DRIFTS = {form: {**UPLINK[form[0]], **DECISION[form[1]]} for form in FORMS}
DRIFTS["routed", "steer"].update(EVERYWHERE)
DRIFTS["bridged", "flood"].update(EVERYWHERE)
# Nothing to repair: the kernel itself restores it, or only traffic is affected.
# Which cases these are may depend on the kernel, so the tests do not require a change.
HARMLESS = ("bridge down and up", "member's end of a veth down and up")


@dataclass
class Drifting:
    """A cluster and its clients."""

    world: ServedWorld
    built: Built
    state: State
    macs: set[str]

    def now(self) -> State:
        """State of the host and the members."""
        there = self.world.namespaces()
        return states_of((n for n in (self.world.host, *self.built.names) if n in there), self.macs)

    def serve(self) -> None:
        """A new namespace has nobody who answers; an answer comes from where the question was taken."""
        for name in self.built.names:
            old = self.built.echoes.pop(name, None)
            if old is not None:
                old.stop()
            self.built.echoes[name] = Echo(name, ADDRESS, PORT)

    def ask(self) -> list[list[str]]:
        """All clients at once by UDP: who answers each of them. Waits until all have an answer, and a moment more."""
        answers: dict[socket.socket, list[str]] = {}
        with contextlib.ExitStack() as stack:
            for i in range(CLIENTS):
                with within(self.world.name(f"c{i + 1}")):
                    answers[stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))] = []
            for sock in answers:
                sock.sendto(b"?", (ADDRESS, PORT))
            while ready := select.select(list(answers), [], [], 0.05 if all(answers.values()) else 1)[0]:
                for sock in ready:
                    with contextlib.suppress(ConnectionRefusedError):
                        answers[sock].append(sock.recv(1500).rstrip(b".").decode())
        return list(answers.values())

    def wrong(self) -> list[str]:
        """The clients that are not served by exactly the member that the filter predicts."""
        owners = [self.built.owner(client_address(i)) for i in range(CLIENTS)]
        answers = self.ask()
        if [] in answers:  # a busy machine's backlog may lose one of the frames that a flood multiplies
            answers = self.ask()
        found = [f"c{i + 1} by UDP: {a} instead of {o}" for i, (a, o) in enumerate(zip(answers, owners)) if a != [o]]
        netns, owner = self.world.name("c1"), self.built.owner(client_address(0))
        if (answer := ask_tcp(netns, ADDRESS, PORT)) != owner:
            found.append(f"c1 by TCP: {answer} instead of {owner}")
        if (answer := ask_tcp(self.world.host, ADDRESS, PORT)) != self.built.owner(self.built.host_address):
            found.append(f"the host: {answer}")
        return found

    def damage(self, command: str) -> None:
        """Apply the damage."""
        layout, world = self.built.layout, self.world
        nodes, fdb = layout["nodes"], layout["bridges"][0]["fdb"]
        table, host = f"clustered_openvpn_{layout['name']}", world.host
        family = "bridge" if layout["cluster"]["uplink"] == "bridged" else "netdev"
        at = f"{family} {table} uplink"
        cluster = cluster_from(PARAMETERS | layout["cluster"])
        names = {
            **dict(zip(("one", "two", "three"), self.built.names)),
            "host": host,
            "table": table,
            "family": family,
            "name": layout["name"],
            "answer": uplink_of(cluster).unresolved_mac(cluster),
            "address": ADDRESS,
            "bridge": layout["bridges"][0]["name"],
            "mac": nodes[0]["mac"],
            "mac_two": nodes[1]["mac"],
            "port": fdb[0]["port"],
            "port_two": fdb[1]["port"],
            "bucket": nodes[0]["local_nodes"][0],
            "slice": layout["bridges"][0]["routes"][0]["dst"],
            "replace": (  # the one that looks the owner up, or sends to all
                f"handle=$(ip netns exec {host} nft -a list chain {at}"
                " | sed -n 's/.* ether daddr set .*handle //p' | tail -1);"
                f" ip netns exec {host} nft replace rule {at} handle $handle ip daddr {ADDRESS} drop"
            ),
            "replace_in_member": (
                f"handle=$(ip netns exec {self.built.names[0]} nft -a list chain ip {table} service"
                " | sed -n 's/.*udp dport.*handle //p');"
                f" ip netns exec {self.built.names[0]} nft replace rule ip {table} service handle $handle"
                f" ip daddr {ADDRESS} udp dport {PORT + 1} accept"
            ),
            "nic": (
                f"ip -n {host} link del nic0"
                f" && ip -n {world.name('switch')} link add p-nic type veth peer name nic0 netns {host}"
                f" && ip -n {world.name('switch')} link set p-nic master br0 up"
                f" && ip -n {host} addr add 192.0.2.2/24 dev nic0 && ip -n {host} link set nic0 up"
            ),
        }
        sh(command.format(**names))


@contextlib.contextmanager
def built(uplink: str, distribution: str) -> t.Iterator[Drifting]:
    """Build a cluster with this uplink and distribution."""
    world = ServedWorld(f"r{os.getpid() % 10000}{uplink[0]}{distribution[0]}")
    built = None
    try:
        world.lan(CLIENTS, bridged=uplink == "bridged")
        built = Built(world, 3, uplink=uplink, distribution=distribution)
        assert {built.owner(client_address(i)) for i in range(CLIENTS)} == set(built.names), "clients of every member"
        built.build()
        macs = {node["mac"] for node in built.layout["nodes"]}
        made = Drifting(world, built, {}, macs)
        made.state = made.now()
        made.serve()
        assert made.wrong() == []
        yield made
    finally:
        if built is not None:
            built.stop()
        world.remove()


@pytest.fixture(scope="module")
def cluster_of() -> t.Iterator[t.Callable[[Form], Drifting]]:
    """The cluster of a form, built once and drifting from test to test; it goes when another form is asked for."""
    made: dict[Form, Drifting] = {}
    with contextlib.ExitStack() as stack:

        def of(form: Form) -> Drifting:
            if form not in made:
                made.clear()
                stack.close()
                made[form] = stack.enter_context(built(*form))
            return made[form]

        yield of


@pytest.mark.parametrize(
    ("form", "drift"),
    [(form, drift) for form in FORMS for drift in DRIFTS[form]],
    ids=lambda part: "-".join(part) if isinstance(part, tuple) else part,
)
def test_each_drift_alone_is_repaired_by_the_next_run(
    cluster_of: t.Callable[[Form], Drifting], form: Form, drift: str
) -> None:
    drifting = cluster_of(form)
    drifting.damage(DRIFTS[form][drift])
    if drift not in HARMLESS:
        assert differences(drifting.state, drifting.now()), "it is a damage"
    changed = drifting.built.build()
    assert any(changed) or drift in HARMLESS
    assert not differences_at_last(lambda: drifting.state, drifting.now)
    assert drifting.built.build() == [False] * 4
    if drift in NAMESPACES:
        drifting.serve()
    if drift.startswith("NIC deleted"):  # a new one has a new MAC address, which is in no neighbour cache
        for i in range(CLIENTS):
            sh("ip neigh flush all", drifting.world.name(f"c{i + 1}"))
    assert drifting.wrong() == []
