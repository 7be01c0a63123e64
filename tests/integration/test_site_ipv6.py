# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The site playbook with IPv4 and IPv6, at the service address and inside the tunnels.

As in test_site.py, the tests follow one cluster through its life, in their order.
"""

from __future__ import annotations

import time
import typing as t
from pathlib import Path

import pytest

from .site_host import CLIENTS, Run, Site
from .world import sh

ADDRESS, ADDRESS6 = "192.0.2.30", "2001:db8::10"
GATEWAY6 = "fd9b:6c1e:4f02::1"
UDP = {"name": "udp", "protocol": "udp", "port": 1194, "pool": "10.28.0.0/16"}
TCP = {"name": "tcp", "protocol": "tcp", "port": 443, "pool": "10.29.0.0/16"}
SIX: dict[str, t.Any] = {
    "netns_cluster_address": ADDRESS,
    "netns_cluster_internal_network": "10.252.0.0/22",
    "netns_cluster_ipv6_address": ADDRESS6,
    "netns_cluster_instances": [
        {**UDP, "pool_ipv6": "fd12:3456:789a::/56"},
        {**TCP, "pool_ipv6": "fd12:3456:789a:100::/56"},
    ],
}


class DualStack(Site):
    """Every other client comes by IPv6; the first half by UDP, the second by TCP. The host needs no preparation."""

    account: t.ClassVar = {"user": "nobody", "group": "nogroup"}

    def __init__(self, tmp: Path):
        super().__init__(tmp)
        self.address6 = ADDRESS6
        sh("ip addr add 2001:db8::2/64 nodad dev nic0", self.world.host)
        for i in range(CLIENTS):
            sh(f"ip addr add 2001:db8::{101 + i}/64 nodad dev eth0", self.world.name(f"c{i + 1}"))

    def address_of(self, i: int) -> str:
        return f"2001:db8::{101 + i}" if i % 2 else super().address_of(i)

    def remote(self, i: int) -> tuple[str, str, str]:
        ip = "6" if i % 2 else "4"
        port, protocol = ("1194", f"udp{ip}") if i < CLIENTS // 2 else ("443", f"tcp{ip}-client")
        return self.address6 if i % 2 else ADDRESS, port, protocol

    def play(self, *options: str, whole: bool = False, **variables: t.Any) -> Run:
        return super().play(*options, whole=whole, **{**SIX, **variables})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[DualStack]:
    """Nothing built yet."""
    made = DualStack(tmp_path_factory.mktemp("site"))
    try:
        yield made
    finally:
        made.remove()


def dump(site: Site) -> str:
    """The host's links, addresses, routes and rules; without IPv6 forwarding, which stays on, and its groups."""
    keys = "net[.]ipv4[.].*forwarding|send_redirects|proxy_delay|proxy_ndp|[.]forwarding$"
    commands = (
        "ip -br link; ip -br addr; ip route; ip -6 route; ip neigh show proxy; ip -6 neigh show proxy;"
        " bridge fdb | grep -v ^33:33: | grep -E 'permanent|static';"
        f" nft list ruleset; sysctl -a -r '{keys}' | grep -v 'ipv6.*forwarding'"
    )
    return "\n".join(site.world.namespaces()) + sh(commands, site.world.host)


@pytest.fixture(scope="module")
def before(site: DualStack) -> str:
    """The host with nothing on it."""
    return dump(site)


def test_a_second_run_changes_nothing(site: DualStack, before: str) -> None:
    assert site.play(netns_cluster_pki=True).changed > 0
    built = dump(site)
    again = site.play("--diff")
    assert again.changed == 0, again.changed_tasks
    assert dump(site) == built != before


def test_clients_of_both_families_are_served_by_the_member_that_the_filter_predicts(site: DualStack) -> None:
    for i in range(CLIENTS):
        site.connect(i)
    served = site.wait_until_served_as_predicted(20)
    assert {by[0][0] for by in served.values()} == {f"{site.name}1", f"{site.name}2"}


def test_clients_reach_the_host_and_each_other_across_members_by_ipv6(site: DualStack) -> None:
    served = site.wait_until_served_as_predicted(20)
    others = [by[0][1] for by in served.values()]
    for i in (0, 1):
        assert site.through_tunnel(i, GATEWAY6)
        assert [site.through_tunnel(i, other.virtual_address6) for other in others] == [True] * CLIENTS
    assert [site.through_tunnel(1, other.virtual_address) for other in others] == [True] * CLIENTS


def test_moved_clients_of_both_families_are_told(site: DualStack) -> None:
    then = site.wait_until_served_as_predicted(20)
    site.play(netns_cluster_size=4)
    moved = [i for i in range(CLIENTS) if then[f"c{i + 1}"][0][0] != site.owner(i)]
    assert {i % 2 for i in moved} == {0, 1}, "some of each family are to move"
    # Nobody waits for the end of a ping-restart, which is a minute.
    now = site.wait_until_served_as_predicted(10)
    for i in set(range(CLIENTS)) - set(moved):
        assert now[f"c{i + 1}"][0][1].cid == then[f"c{i + 1}"][0][1].cid, "the same session"
    held = site.world.module("clusterip_info", name=site.name)["clusters"]
    assert {name: claim["address"] for name, claim in held.items()} == {
        site.name: ADDRESS,
        f"{site.name}.v6": ADDRESS6,
    }
    owners = {m["mac"]: m["local_nodes"] for m in site.layout()["members"]}
    assert [claim["owners"] for claim in held.values()] == [owners, owners]
    site.assert_settled()


@pytest.mark.soak
def test_another_address_of_ipv6_leaves_nothing_of_the_former(site: DualStack) -> None:
    then = site.wait_until_served_as_predicted(20)
    site.address6 = "2001:db8::20"
    changed = {"netns_cluster_size": 4, "netns_cluster_ipv6_address": site.address6}
    site.play(**changed)
    site.assert_settled()
    left = sh("ip -6 route; ip -6 neigh show proxy; nft list ruleset", site.world.host)
    left += sh("ip -6 addr show dev lo; nft list ruleset", f"{site.name}1")
    assert ADDRESS6 not in left
    assert site.address6 in left
    now = site.served()
    for i in range(0, CLIENTS, 2):
        assert now[f"c{i + 1}"][0][1].cid == then[f"c{i + 1}"][0][1].cid, "IPv4 is not touched"


def test_ipv6_in_the_tunnels_alone(site: DualStack) -> None:
    site.play(netns_cluster_size=4, netns_cluster_ipv6_address="")
    site.assert_settled()
    assert sh("ip -6 neigh show proxy; nft list tables | grep v6", site.world.host, check=False) == ""
    deadline = time.monotonic() + 20  # the servers were restarted
    while not all(site.through_tunnel(i, GATEWAY6) for i in range(0, CLIENTS, 2)):
        assert time.monotonic() < deadline


def test_without_ipv6_nothing_of_it_is_left(site: DualStack) -> None:
    four = {"netns_cluster_size": 4, "netns_cluster_ipv6_address": "", "netns_cluster_instances": [UDP, TCP]}
    site.play(**four)
    assert site.play(**four).changed_tasks == []
    assert sh("ip -6 neigh show proxy; nft list tables | grep v6", site.world.host, check=False) == ""
    for netns in (f"{site.name}1", site.world.host):
        assert "fd9b:" not in sh("ip -6 addr; ip -6 route", netns)
    assert "ip6" not in sh("nft list ruleset", f"{site.name}1")


def test_absent_leaves_nothing(site: DualStack, before: str) -> None:
    site.play(netns_cluster_size=2)
    site.play(netns_cluster_pki=True, netns_cluster_size=2, netns_cluster_state="absent")
    assert dump(site) == before
    assert site.files() == site.files_before
