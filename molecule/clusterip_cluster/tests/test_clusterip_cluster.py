# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role clusterip_cluster makes of hosts, seen from each host and from its clients."""

from __future__ import annotations

import json
import typing as t

import pytest
from testinfra.host import Host

from ansible_collections.clustered.openvpn.plugins.filter.cluster import bucket

if t.TYPE_CHECKING:
    from lab.client import Client

MAC = "03:00:cb:00:71:14"
ADDRESS = "203.0.113.20"


@pytest.fixture
def ring(host: Host) -> dict[str, t.Any]:
    """What the host knows of the others."""
    return json.loads(host.file("/etc/clustered-openvpn/vpn.ring/ring.json").content_string)


def owners(host: Host) -> dict[int, str]:
    """Bucket -> MAC address of a member of the host."""
    listed = json.loads(host.check_output("nft -j list map netdev clustered_openvpn_vpn owner"))
    (owner,) = (item["map"] for item in listed["nftables"] if "map" in item)
    return dict(owner.get("elem", []))


def test_the_host_hears_the_cluster(host: Host) -> None:
    assert MAC.replace(":", "") in host.file("/proc/net/dev_mcast").content_string
    assert f"{ADDRESS} dev eth0 proxy" in host.check_output("ip neigh show proxy")


def test_units_run(host: Host) -> None:
    for unit in ("clustered-openvpn@vpn", "clustered-openvpn-claims@vpn", "clustered-openvpn-vrrp@vpn"):
        assert host.service(unit).is_running
    assert not host.service("keepalived").is_running, "that one is the administrator's"


def test_only_hosts_of_the_cluster_speak_of_its_slots(host: Host) -> None:
    assert "203.0.113.1, 203.0.113.2" in host.check_output("nft list table ip clustered_openvpn_vpn.vrrp")


def test_the_host_has_its_share_by_both_members(host: Host, ring: dict[str, t.Any]) -> None:
    held = owners(host)
    mine = host.check_output("hostname")
    assert sorted(held) == ring["claims"][mine]
    assert len(set(held.values())) == 2


def test_files_are_for_root_alone_to_write(host: Host) -> None:
    for name in ("ring.json", "keepalived.conf", "vrrp.nft"):
        file = host.file(f"/etc/clustered-openvpn/vpn.ring/{name}")
        assert (file.user, file.mode) == ("root", 0o644)


def test_clients_are_served_by_the_host_that_owns_their_bucket(clients: list[Client], ring: dict[str, t.Any]) -> None:
    for client in clients:
        client.begin(*client.options_as(client.name, ADDRESS, 1194, "udp"))
    for client in clients:
        client.wait_until_connected()
        (owner,) = (name for name, buckets in ring["claims"].items() if bucket(client.address) in buckets)
        member = int(client.tunnel_address().split(".")[2]) + 1
        assert member in [m["number"] for m in ring["members"][owner]]
        assert MAC in client.run("ip", "neigh", "show", "to", ADDRESS)
