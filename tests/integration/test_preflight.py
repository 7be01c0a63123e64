# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What else a host and its LAN have: refused before the first change, with real routes, rules, neighbours and files."""

from __future__ import annotations

import contextlib
import re
import typing as t
from pathlib import Path

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.layout import layout
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.request import request_from
from ansible_collections.clustered.openvpn.plugins.module_utils._state import files

from .served import states_of
from .site_host import ADDRESS, Site
from .world import ModuleFailed, World, sh

INSTANCES = [{"name": "udp", "protocol": "udp", "port": 1194, "pool": "10.8.0.0/16", "pool_ipv6": "fd13::/56"}]


def desired(world: World, **changes: t.Any) -> dict[str, t.Any]:
    """The desired state of a cluster whose names nothing else on the machine has."""
    wanted = {
        "name": world.prefix[:9],
        "address": "192.0.2.20",
        "ipv6_address": "2001:db8::20",
        "interface": "nic0",
        "members": [],
        "size": 2,
        "instances": INSTANCES,
        "slice_prefix": 24,
        "internal_network": "10.255.0.0/22",
        "ipv6_internal_network": "fd9b::/64",
        "total_nodes": 256,
        "hash_init": 0,
        **changes,
    }
    return files.document(layout(request_from(wanted)))


def look(world: World, previous: dict[str, t.Any] | None = None, **changes: t.Any) -> list[str]:
    """What the module refuses, in check mode and without it; it changes nothing."""
    before = states_of([world.host])
    said = []
    for check in (True, False):
        try:
            world.module(
                "preflight", check=check, state=desired(world, **changes), previous=previous or {}, pools=INSTANCES
            )
            said.append("")
        except ModuleFailed as exc:
            said.append(str(exc))
    assert states_of([world.host]) == before
    assert said[0] == said[1]
    return said[0].splitlines()


@pytest.fixture
def host(world: World) -> World:
    """A host with two neighbours, c1 and c2."""
    world.lan(2)
    sh("ip -6 addr add 2001:db8::2/64 nodad dev nic0", world.host)
    return world


def test_routes_and_rules_of_every_table(host: World) -> None:
    assert look(host) == []
    sh(
        "ip route add 10.8.0.0/16 via 192.0.2.9; ip route add 10.8.1.0/24 nexthop via 192.0.2.8 nexthop via 192.0.2.9"
        "; ip route add 10.255.0.0/24 via 192.0.2.9 table 100; ip rule add from 10.1.0.0/16 lookup 100"
        "; ip -6 route add fd13::/64 via 2001:db8::9; ip -6 rule add pref 5 prohibit to fd9b::/32",
        host.host,
    )
    said = "\n".join(look(host))
    for text in (
        "instances[udp].pool: '10.8.0.0/16': this host has the route 10.8.0.0/16 via 192.0.2.9 dev nic0; remove it",
        "this host has the route 10.8.1.0/24 via 192.0.2.8 via 192.0.2.9 dev nic0",
        "internal_network: '10.255.0.0/22': this host has the route 10.255.0.0/24 via 192.0.2.9 dev nic0 table 100",
        "instances[udp].pool_ipv6: 'fd13::/56': this host has the route fd13::/64 via 2001:db8::9 dev nic0",
        "ipv6_internal_network: 'fd9b::/64': this host has the rule 5: from all to fd9b::/32 prohibit",
    ):
        assert text in said


@pytest.mark.parametrize(
    "claim",
    [
        "ip addr add {}/{} nodad dev eth0",
        # A host like ours: proxies do not answer probes without a source.
        "sysctl -qw net.ipv4.conf.all.forwarding=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.eth0.proxy_ndp=1"
        "; ip link add br9 type bridge; ip link set br9 up; ip -4 route add 192.0.2.20/32 dev br9"
        "; ip -6 route add 2001:db8::20/128 dev br9; ip neigh add proxy {} dev eth0",
    ],
)
@pytest.mark.parametrize(
    ("parameter", "address", "length"), [("address", "192.0.2.20", 24), ("ipv6_address", "2001:db8::20", 64)]
)
def test_an_address_that_a_neighbour_has(host: World, claim: str, parameter: str, address: str, length: int) -> None:
    neighbour = host.name("c1")
    sh("ip -6 addr add 2001:db8::101/64 nodad dev eth0; " + claim.format(address, length), neighbour)
    mac = sh("ip -br link show eth0 | awk '{print $3}'", neighbour)
    assert look(host) == [
        f"{parameter}: '{address}': the neighbour {mac} on nic0 has it; choose an address that nobody has"
    ]
    assert look(host, previous=desired(host)) == []
    assert look(host, shared=True, buckets=[1, 2]) == []  # a warning, since it may be a host that shares it


def test_nics_that_cannot_carry_the_address(host: World) -> None:
    sh(
        "ip tuntap add tun9 mode tun; ip link set tun9 up; ip link add br9 type bridge; ip link set nic0 master br9",
        host.host,
    )
    (error,) = look(host, interface="tun9")
    assert error.startswith("interface: 'tun9': has no MAC address")
    assert error.endswith("use one of: nic0")
    (error,) = look(host)
    assert error == "interface: 'nic0': is a port of br9, which receives its packets; use interface br9"


# --- names, and the whole role ----------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> t.Iterator[Site]:
    """Nothing built yet."""
    made = Site(tmp_path)
    try:
        yield made
    finally:
        made.remove()


def commands_in(output: str) -> list[str]:
    """The commands of a warning. Ansible breaks its lines."""
    (warning,) = re.findall(
        r"\[WARNING\]: (netns_cluster_name: .*?accept\b.*?)(?=\n\n|\nok:|\nTASK|\n\[|\Z)", output, re.S | re.I
    )
    return re.sub(r"\s+", " ", warning).rpartition("firewall.md): ")[2].strip().split("; ")


def test_forward_policies_of_the_host(site: Site) -> None:
    """An nftables table, for which the run says what to add; and iptables, where it can add rules itself."""
    host, client, name = site.world.host, site.world.name("c1"), site.name

    def answered() -> bool:
        return "1 received" in sh(f"ping -c 1 -W 1 {ADDRESS}", client, check=False)

    chain = "chain forward {\\ntype filter hook forward priority 0; policy drop;\\n}"
    sh(f"printf 'table inet filter {{\\n{chain}\\n}}\\n' | nft -f -", host)
    site.play(whole=True)
    assert not answered()
    said = site.play(netns_cluster_firewall=True)
    assert said.changed_tasks == ["Save the desired state"]
    assert "netns_cluster_firewall cannot do it, since this drop is final" in re.sub(r"\s+", " ", said.output)
    for line in commands_in(said.output):
        sh(line, host)
    assert answered()
    assert "hook forward" not in site.play(netns_cluster_firewall=True).output
    sh("nft delete table inet filter; iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -o docker0 -j ACCEPT", host)
    assert not answered()
    said = site.play(netns_cluster_firewall=False)
    assert "Set netns_cluster_firewall: true, or: Add these rules" in re.sub(r"\s+", " ", said.output)
    assert not answered()
    site.play(netns_cluster_firewall=True)
    assert answered()
    assert site.play(netns_cluster_firewall=True).changed == 0
    assert f'-A FORWARD -m comment --comment "clustered_openvpn_{name}: ' in sh("iptables-nft-save", host)
    site.play(netns_cluster_firewall=False)
    assert not answered()
    site.play(netns_cluster_firewall=True)
    site.play(whole=True, netns_cluster_state="absent", netns_cluster_firewall=True)
    assert "clustered_openvpn" not in sh("iptables-nft-save", host)
    assert "docker0" in sh("iptables-nft-save", host)


def test_the_role_leaves_alone_what_it_has_not_made(site: Site) -> None:
    name = site.name
    written = site.path(f"/etc/openvpn/server/{name}2-udp.conf")
    written.write_text("# by hand\nport 1199\n")
    sh(
        f"ip link add br-{name} type bridge; ip addr add 172.16.9.1/24 dev br-{name}; ip tuntap add d0 mode tap",
        site.world.host,
    )
    sh(f"ip link set d0 master br-{name}; ip route add 10.8.0.0/24 via 192.0.2.9", site.world.host)
    sh(f"ip netns add {name}1 && ip -n {name}1 link add wg0 type bridge")
    before, files_before = states_of([site.world.host, f"{name}1"]), site.files()
    try:
        for state, options in (("present", ["--check"]), ("present", []), ("absent", ["--check"]), ("absent", [])):
            with pytest.raises(AssertionError) as refused:
                site.play(*options, netns_cluster_state=state)
            said = str(refused.value)
            for text in (
                f"the interface br-{name} (172.16.9.1/24, port d0) of this host is not its bridge",
                f"the network namespace {name}1 of this host was not made for it and holds wg0",
                f"/etc/openvpn/server/{name}2-udp.conf exists and was not written for it",
                *(["this host has the route 10.8.0.0/24 via 192.0.2.9 dev nic0"] if state == "present" else []),
            ):
                assert text in said
            assert states_of([site.world.host, f"{name}1"]) == before
            assert site.files() == files_before
            assert written.read_text().startswith("# by hand")
        site.play(whole=True, netns_cluster_state="absent", netns_cluster_adopt=True)
        assert not written.exists()
        assert f"{name}1" not in site.members()
    finally:
        with contextlib.suppress(AssertionError):
            sh(f"ip netns del {name}1")
