# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The site playbook on a host, with real clients: built, grown, shrunk and removed.

The tests of this file follow one cluster through its life, in their order.
"""

from __future__ import annotations

import re
import signal
import time
import typing as t
from pathlib import Path

import pytest

from .served import differences_at_last, states_of
from .site_host import ADDRESS, CLIENTS, Site
from .world import sh


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Site]:
    """Nothing built yet."""
    made = Site(tmp_path_factory.mktemp("site"))
    try:
        yield made
    finally:
        made.remove()


def dump(site: Site) -> str:
    """Namespaces, links, addresses, routes, rules of the host."""
    commands = (
        "ip -br link; ip -br -4 addr; ip route; ip neigh show proxy; nft list ruleset;"
        " bridge fdb | grep -E 'permanent|static'; sysctl -a -r forwarding"
    )
    return "\n".join(site.world.namespaces()) + sh(commands, site.world.host)


def test_check_mode_on_an_empty_host_changes_nothing_and_reads_as_commands(site: Site) -> None:
    before = dump(site)
    said = site.play("--check", "--diff", whole=True).output
    assert dump(site) == before
    assert site.files() == site.files_before
    for line in (
        f"ip netns add {site.name}1",
        f"ip link add ve-{site.name}1 type veth peer name eth0 netns {site.name}1 address",
        f"bridge fdb replace [0-9a-f:]+ dev ve-{site.name}1 master static",
        f"ip netns exec {site.name}1 sysctl -w net.ipv4.ip_forward=1",
        f"add table netdev clustered_openvpn_{site.name}",
        f"ip neigh add proxy {ADDRESS} dev nic0",
        r"\+topology subnet",
    ):
        assert re.search(f"^{line}", said, re.M), f"{line} in\n{said}"


def test_a_second_run_changes_nothing_and_none_prints_a_secret(site: Site) -> None:
    """The noisiest runs there are, the first with new keys and everything written again."""
    first = site.play("-vvv", "--diff", whole=True)
    assert first.changed > 0
    before = dump(site)
    again = site.play("-vvv", "--diff", whole=True)
    assert again.changed == 0, again.changed_tasks
    assert dump(site) == before
    for said in (first.output, again.output):
        assert "PRIVATE KEY" not in said
        for name in ("tls-crypt.key", "ca.key", "server.key", *(f"clients/c{i + 1}.key" for i in range(CLIENTS))):
            lines = (site.tmp / "pki" / name).read_text().splitlines()
            assert not [x for x in lines if x and not x.startswith(("-", "#")) and x in said], name
    for path in (site.tmp / "pki").rglob("*.key"):
        assert path.stat().st_mode & 0o077 == 0, path
    keys = {p.name: p.stat().st_mode & 0o777 for p in site.path(f"/etc/clustered-openvpn/{site.name}").glob("*.key")}
    assert keys == {"server.key": 0o600, "tls-crypt.key": 0o600}


def test_clients_are_served_by_the_member_that_the_filter_predicts(site: Site) -> None:
    for i in range(CLIENTS):
        site.connect(i)
    served = site.wait_until_served_as_predicted(20)
    assert {by[0][0] for by in served.values()} == {f"{site.name}1", f"{site.name}2"}


def test_clients_reach_the_host_and_each_other_across_members(site: Site) -> None:
    served = site.wait_until_served_as_predicted(20)
    first = next(i for i in range(CLIENTS) if served[f"c{i + 1}"][0][0] == f"{site.name}1")
    others = [by[0][1].virtual_address for by in served.values()]
    assert site.through_tunnel(first, "10.255.0.1")
    assert [site.through_tunnel(first, address) for address in others] == [True] * CLIENTS


def resize(site: Site, size: int, moves: int) -> None:
    """The fewest buckets move, and the other sessions are kept."""
    before_layout, before = site.layout(), site.wait_until_served_as_predicted(20)
    owners = {b: m["name"] for m in before_layout["members"] for b in m["local_nodes"]}
    site.play(netns_cluster_size=size)
    layout = site.layout()
    now = {b: m["name"] for m in layout["members"] for b in m["local_nodes"]}
    assert sorted(now) == list(range(1, 257))
    assert sum(owners[b] != now[b] for b in now) == moves
    held = site.world.module("clusterip_info")["clusters"][site.name]
    assert held["owners"] == {m["mac"]: m["local_nodes"] for m in layout["members"]}

    stayed = [i for i in range(CLIENTS) if before[f"c{i + 1}"][0][0] == site.owner(i)]
    assert 0 < len(stayed) < CLIENTS, "some are to stay and some are to move"
    for i in stayed:
        assert site.through_tunnel(i, "10.255.0.1")
    # They were told: nobody waits for the end of a ping-restart, which is a minute.
    after = site.wait_until_served_as_predicted(10)
    for i in stayed:
        (_member, was), (_same, is_now) = before[f"c{i + 1}"][0], after[f"c{i + 1}"][0]
        assert (is_now.cid, is_now.connected_since) == (was.cid, was.connected_since), "the same session"
        assert is_now.bytes_received > was.bytes_received
    wanted = {
        site.world.name("host"),
        site.world.name("switch"),
        *(site.world.name(f"c{i + 1}") for i in range(CLIENTS)),
    }
    assert set(site.world.namespaces()) == wanted, "the world's"
    assert set(site.members()) == {f"{site.name}{k + 1}" for k in range(size)}
    site.assert_settled()


def test_growing_moves_the_new_members_shares(site: Site) -> None:
    resize(site, 5, 153)


def test_check_mode_after_a_change_of_one_variable_says_just_that(site: Site) -> None:
    """And so it says that nothing was left to be done for the new members."""
    before, files_before = dump(site), contents(site)
    said = site.play("--check", "--diff", netns_cluster_size=5, openvpn_server_keepalive_timeout=70)
    assert [re.sub(".* : ", "", task).rstrip("]") for task in said.changed_tasks] == [
        "Write the shared configuration",
        "Report the instances that new configurations would restart",
    ]
    assert "-keepalive 10 60\n+keepalive 10 70\n" in said.output
    assert dump(site) == before
    assert contents(site) == files_before


def contents(site: Site) -> dict[Path, bytes]:
    """Of all files in the host's /etc that are ours."""
    return {path: path.read_bytes() for path in site.path("/etc").rglob("*") if path.is_file()}


def test_shrinking_moves_what_the_members_that_go_have(site: Site) -> None:
    resize(site, 3, 102)


def test_a_second_cluster_on_the_host_disturbs_nobody(site: Site) -> None:
    before, dumped, files_before = site.wait_until_served_as_predicted(20), dump(site), contents(site)
    second: dict[str, t.Any] = {
        "netns_cluster_pki": True,
        "pki_directory": str(site.tmp / "second"),  # the authority is named after its cluster
        "pki_clients": [],
        "netns_cluster_name": f"u{site.name[1:]}",
        "netns_cluster_address": "192.0.2.20",
        "netns_cluster_internal_network": "10.251.0.0/22",
        "netns_cluster_instances": [{"name": "udp", "protocol": "udp", "port": 1194, "pool": "10.18.0.0/16"}],
    }
    try:
        site.play(**second)
        site.assert_settled(second["netns_cluster_name"])
        assert site.play(netns_cluster_size=3).changed_tasks == []
        assert "1 received" in sh("ping -c 1 -W 2 192.0.2.20", site.world.name("c1"))
        with pytest.raises(AssertionError, match=f"the cluster {site.name} of this host has it"):
            site.play(**{**second, "netns_cluster_address": ADDRESS})
    finally:
        site.play(netns_cluster_state="absent", **second)
    assert dump(site) == dumped
    assert contents(site) == files_before
    after = site.wait_until_served_as_predicted(20)
    for name, by in before.items():
        assert after[name][0][1].cid == by[0][1].cid, "the same session"


# With the uplink bridged, the NIC given to the bridge.
BRIDGED: dict[str, t.Any] = {
    "netns_cluster_uplink": "bridged",
    "netns_cluster_bridge": "br-lan",
    "netns_cluster_take_interface": True,
    "netns_cluster_first_member_address": "192.0.2.11",
    "netns_cluster_gateway": "192.0.2.101",
}
MOVED = {**BRIDGED, "netns_cluster_bridge": "br-two"}


def test_the_uplink_becomes_bridged_and_the_clients_are_served_as_before(site: Site) -> None:
    """Served by restarted servers, since there is another route to push.

    The former address is gone by then, so nobody is told: clients notice by their ping-restart, and here at once.
    """
    said = site.play("--check", "--diff", netns_cluster_size=3, **BRIDGED).output
    assert "ip link set dev nic0 master br-lan" in said
    site.play(netns_cluster_size=3, **BRIDGED)
    site.assert_settled()
    for client in site.clients:
        client.send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + 60  # what the servers say at first may be of sessions that have just ended
    while True:
        after = site.wait_until_served_as_predicted(30)
        others = [by[0][1].virtual_address for by in after.values()]
        reached = [site.through_tunnel(0, address) for address in ["192.0.2.2", *others]]
        if all(reached):
            break
        assert time.monotonic() < deadline, reached
    site.play(netns_cluster_size=2, **BRIDGED)
    assert site.play(netns_cluster_size=2, **BRIDGED).changed_tasks == []
    site.wait_until_served_as_predicted(20)


def test_a_bridge_that_is_left_gives_the_nic_back_for_another_to_take_it(site: Site) -> None:
    said = site.play("--check", "--diff", netns_cluster_size=2, **MOVED).output
    assert "ip link set dev nic0 nomaster" in said
    site.play(netns_cluster_size=2, **MOVED)
    site.assert_settled()
    links = sh("ip -br link", site.world.host)
    assert "br-two" in links
    assert "br-lan" not in links
    site.wait_until_served_as_predicted(20)
    assert site.through_tunnel(0, "192.0.2.2")


def test_absent_leaves_nothing(site: Site) -> None:
    site.play(whole=True, netns_cluster_size=3, netns_cluster_state="absent", **MOVED)
    assert not differences_at_last(lambda: site.before, lambda: states_of([site.world.host]))
    assert site.files() == site.files_before
    assert site.members() == []
    commands = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()]
    assert [c for c in commands if f"/{site.name}".encode() in c] == []
    assert site.play(netns_cluster_size=3, netns_cluster_state="absent", **MOVED).changed == 0
