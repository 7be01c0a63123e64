# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Effects of the role netns_cluster, seen from the host and from its clients."""

from __future__ import annotations

import json
import typing as t

import pytest
from testinfra.host import Host

from ansible_collections.clustered.openvpn.plugins.filter.cluster import bucket_member

if t.TYPE_CHECKING:
    from lab.client import Client

MEMBERS = ["vpn1", "vpn2", "vpn3"]
INSTANCES = [("udp", "udp", 1194), ("tcp", "tcp", 443)]


@pytest.fixture
def layout(host: Host) -> dict[str, t.Any]:
    """The desired state on the host."""
    return json.loads(host.file("/etc/clustered-openvpn/vpn.json").content_string)


def lines(host: Host, command: str) -> list[list[str]]:
    """The output of a command, split into lines and words."""
    return [line.split() for line in host.check_output(command).splitlines()]


def test_members_are_namespaces(host: Host) -> None:
    assert sorted(words[0] for words in lines(host, "ip netns list")) == MEMBERS


def test_all_members_have_the_service_address(host: Host, layout: dict[str, t.Any]) -> None:
    for member in MEMBERS:
        assert f"{layout['cluster']['address']}/32" in host.check_output(f"ip -n {member} -br addr show lo")
    assert layout["cluster"]["address"] not in host.check_output("ip -br addr")


def test_the_host_answers_for_it(host: Host, layout: dict[str, t.Any]) -> None:
    assert f"{layout['cluster']['address']} dev eth0 proxy" in host.check_output("ip neigh show proxy")
    assert host.sysctl("net.ipv4.conf.eth0.forwarding") == 1


def test_links_lead_to_the_members(host: Host) -> None:
    ports = sorted(words[0].split("@")[0] for words in lines(host, "ip -br link show master br-vpn"))
    assert ports == [f"ve-{member}" for member in MEMBERS]
    static = [words for words in lines(host, "bridge fdb show br br-vpn") if "static" in words]
    assert sorted(words[words.index("dev") + 1] for words in static) == ports


def test_rules_give_every_bucket_to_a_member(host: Host) -> None:
    tables = host.check_output("nft list tables").splitlines()
    assert [line for line in tables if "clustered_openvpn" in line] == tables != []
    listed = json.loads(host.check_output("nft -j list map netdev clustered_openvpn_vpn owner"))
    (owners,) = (item["map"]["elem"] for item in listed["nftables"] if "map" in item)
    assert sorted(bucket for bucket, _mac in owners) == list(range(1, 257))
    assert len({mac for _bucket, mac in owners}) == len(MEMBERS)


@pytest.mark.parametrize(("name", "protocol", "port"), INSTANCES)
def test_servers_listen_in_their_members(
    host: Host, layout: dict[str, t.Any], name: str, protocol: str, port: int
) -> None:
    for member in MEMBERS:
        unit = host.service(f"openvpn-server@{member}-{name}")
        assert unit.is_running
        assert unit.is_enabled
        listening = host.check_output(f"ip netns exec {member} ss -Hln{protocol[0]}")
        assert f"{layout['cluster']['address']}:{port} " in listening
        # Not in an earlier namespace of the same name.
        pid = host.check_output(f"systemctl show --property MainPID --value openvpn-server@{member}-{name}")
        inodes = host.check_output(f"stat -Lc %i /proc/{pid}/ns/net /run/netns/{member}").split()
        assert inodes[0] == inodes[1]
    assert layout["cluster"]["address"] not in host.check_output("ss -Hlntu")


@pytest.mark.parametrize(("name", "protocol", "port"), INSTANCES)
def test_clients_are_served_by_the_member_that_owns_their_bucket_and_reach_each_other(
    clients: list[Client], layout: dict[str, t.Any], name: str, protocol: str, port: int
) -> None:
    cluster = layout["cluster"]
    owners = {member["name"]: member["local_nodes"] for member in layout["members"]}
    for client in clients:
        client.begin(*client.options_as(client.name, cluster["address"], port, protocol))
    for client in clients:
        client.wait_until_connected()
        member = bucket_member(client.address, owners, cluster["total_nodes"], cluster["hash_init"])
        slices = {server["netns"]: server["network"] for server in layout["servers"] if server["name"].endswith(name)}
        assert client.tunnel_address().rpartition(".")[0] == slices[member].rpartition(".")[0]
        assert client.pings("10.255.0.1")
    for client in clients[1:]:
        assert clients[0].pings(client.tunnel_address())
