# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The site playbook with members on the LAN, IPv4 and IPv6, on a bridge that is there: built and removed."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from .served import differences_at_last, states_of
from .site_host import CLIENTS, Run, Site
from .world import sh

ADDRESS, ADDRESS6 = "192.0.2.40", "2001:db8::40"
WANTED: dict[str, t.Any] = {
    "netns_cluster_uplink": "bridged",
    "netns_cluster_bridge": "br-lan",
    "netns_cluster_address": ADDRESS,
    "netns_cluster_ipv6_address": ADDRESS6,
    "netns_cluster_first_member_address": "192.0.2.41",
    "netns_cluster_first_member_ipv6_address": "2001:db8::41",
    "netns_cluster_instances": [
        {"name": "udp", "protocol": "udp", "port": 1194, "pool": "10.38.0.0/16", "pool_ipv6": "fd13::/56"}
    ],
}


class OnTheLan(Site):
    """Every other client comes by IPv6. The host needs no preparation."""

    account: t.ClassVar = {"user": "nobody", "group": "nogroup"}
    bridged = True

    def __init__(self, tmp: Path):
        super().__init__(tmp)
        sh("ip addr add 2001:db8::2/64 nodad dev br-lan; sysctl -w net.ipv6.conf.all.forwarding=1", self.world.host)
        for i in range(CLIENTS):
            sh(f"ip addr add 2001:db8::{101 + i}/64 nodad dev eth0", self.world.name(f"c{i + 1}"))
        self.before = states_of([self.world.host])

    def address_of(self, i: int) -> str:
        return f"2001:db8::{101 + i}" if i % 2 else super().address_of(i)

    def remote(self, i: int) -> tuple[str, str, str]:
        return (ADDRESS6, "1194", "udp6") if i % 2 else (ADDRESS, "1194", "udp4")

    def play(self, *options: str, whole: bool = False, **variables: t.Any) -> Run:
        return super().play(*options, whole=whole, **{**WANTED, **variables})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[OnTheLan]:
    """Nothing built yet."""
    made = OnTheLan(tmp_path_factory.mktemp("site"))
    try:
        yield made
    finally:
        made.remove()


def test_clients_of_both_families_are_served_and_reach_each_other(site: OnTheLan) -> None:
    assert site.play(netns_cluster_pki=True).changed > 0
    assert site.play().changed_tasks == []
    for i in range(CLIENTS):
        site.connect(i)
    served = site.wait_until_served_as_predicted(20)
    assert {by[0][0] for by in served.values()} == {f"{site.name}1", f"{site.name}2"}
    others = [by[0][1] for by in served.values()]
    for i in (0, 1):
        assert [site.through_tunnel(i, other.virtual_address) for other in others] == [True] * CLIENTS
        assert [site.through_tunnel(i, other.virtual_address6) for other in others] == [True] * CLIENTS
        assert site.through_tunnel(i, "192.0.2.2")


def test_the_bridge_is_left_as_it_was(site: OnTheLan) -> None:
    site.play(netns_cluster_pki=True, netns_cluster_state="absent")
    assert not differences_at_last(lambda: site.before, lambda: states_of([site.world.host]))
