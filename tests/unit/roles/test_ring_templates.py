# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files and names of the role clusterip_cluster.

An upgrade of a ring must not change a byte of keepalived.conf: with other identifiers or another group, hosts would
elect apart. The files in golden/ were rendered by the templates of commit de9d873; vrrp.nft changed since, for which
keepalived reloads once. C(UPDATE_GOLDEN=1) writes them.
"""

from __future__ import annotations

import base64
import os
import re
import typing as t
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.clustered.openvpn.plugins.filter.cluster import cluster_ring
from ansible_collections.clustered.openvpn.plugins.module_utils._boot import program, units
from ansible_collections.clustered.openvpn.plugins.module_utils._ring import paths

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[3]
ROLE = ROOT / "roles/clusterip_cluster"
HOSTS = {"h1": 1, "h2": 2, "h3": 1, "h4": 0}  # with their weights
CASES: dict[str, dict[str, t.Any]] = {
    "multicast": {},
    "failback": {"clusterip_cluster_failback": True},
    "unicast": {"clusterip_cluster_unicast": True, "clusterip_cluster_first_vrid": 101},
    "macs": {"MAC": "02:00:c0:00:02:%02x"},
    "unicast-failback": {"clusterip_cluster_unicast": True, "clusterip_cluster_failback": True},
    "ipv6": {
        "clusterip_cluster_ipv6_address": "2001:db8::10",
        "clusterip_cluster_name": "web-v6_x",
        "clusterip_cluster_advert_interval": 1,
        "clusterip_cluster_vrrp_interface": "br-lan",
    },
}


def variables_of(path: Path) -> dict[str, t.Any]:
    """A file of variables, with its templates."""
    return DataLoader().load_from_file(str(path), trusted_as_template=True)


class Host:
    """A host in a run of the role: its variables, and those of the role."""

    def __init__(self, number: int, **variables: t.Any) -> None:
        own = f"192.0.2.{number}"
        nic: dict[str, t.Any] = {
            "ipv4": {"address": own, "netmask": "255.255.255.0", "prefix": "24", "network": "192.0.2.0"}
        }
        if mac := variables.pop("MAC", ""):
            nic.update(type="ether", macaddress=mac % number)
        self.name = f"h{number}"
        self.variables: dict[str, t.Any] = {
            "inventory_hostname": self.name,
            "ansible_managed": "Ansible managed",
            "ansible_facts": {"interfaces": ["eth0", "br-lan"], "eth0": nic, "br_lan": nic, "processor_vcpus": 2},
            **variables_of(ROLE / "defaults/main.yml"),
            **variables_of(ROLE / "vars/main.yml"),
            "clusterip_cluster_address": "192.0.2.10",
            "clusterip_cluster_interface": "eth0",
            "clusterip_cluster_slots": 4,
            "clusterip_cluster_total_nodes": 8,
            "clusterip_cluster_weight": HOSTS[self.name],
            **variables,
        }

    def template(self, text: str, **variables: t.Any) -> t.Any:
        """The value of a template with the host's variables."""
        templar = Templar(loader=DataLoader(), variables={**self.variables, **variables})
        return templar.template(trust_as_template(text))

    def file(self, name: str) -> str:
        """A file that the role renders."""
        stay = not self.variables["clusterip_cluster_failback"]
        return str(self.template((ROLE / f"templates/{name}.j2").read_text(), __clusterip_cluster_stay=stay))


def ring_of_hosts(installed: bool = True, **variables: t.Any) -> list[Host]:
    """All hosts of a run, after the role has laid out the ring. installed: by an earlier release."""
    hosts = [Host(number, **variables) for number in range(1, len(HOSTS) + 1)]
    settings = {host.name: host.template("{{ __clusterip_cluster_settings }}") for host in hosts}
    ring = cluster_ring(settings)
    if installed:  # by a release that stored neither identifiers nor MAC addresses
        before = {
            key: value for key, value in ring.items() if key not in ("first_vrid", "group", "placeholder", "vrrp")
        }
        ring = cluster_ring(settings, {"h1": before})
        assert ring["moves"] == {}
        assert ring["generation"] == before["generation"]
    for host in hosts:
        host.variables["clusterip_cluster_ring"] = ring
    return hosts


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["keepalived.conf", "vrrp.nft"])
def test_files_of_the_ring_are_rendered_as_before(case: str, name: str) -> None:
    host = ring_of_hosts(**CASES[case])[1]
    rendered = host.file(name)
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / f"{case}-{name}").write_text(rendered)
    assert rendered == (GOLDEN / f"{case}-{name}").read_text()


def test_settings_of_failover_are_as_before() -> None:
    host = ring_of_hosts(clusterip_cluster_first_vrid=101)[0]
    assert host.template("{{ __clusterip_cluster_failover }}") == {
        "placeholders": "127.64.101.0/24",
        "slots": 4,
        "linger": 0.1,
        "command": [],
        "interval": 0.5,
        "timeout": 0.8,
        "fall": 2,
        "rise": 2,
    }


def test_paths_and_units_in_roles_and_playbooks_are_those_of_the_program() -> None:
    host = Host(1)
    assert host.template("{{ __clusterip_cluster_directory }}") == paths.directory("vpn")
    for role in ("netns_cluster", "tunnel_bundle"):
        variables = {**variables_of(ROOT / f"roles/{role}/vars/main.yml"), f"{role}_name": "vpn"}
        path = host.template(f"{{{{ {role}_manifest }}}}", **variables)
        assert path == paths.desired_state("vpn") == f"{program.MANIFESTS}/vpn.json"
    texts = [path.read_text() for folder in ("roles", "playbooks") for path in (ROOT / folder).rglob("*.yml")]
    named = {unit for text in texts for unit in re.findall(r"\b(clustered-openvpn[a-z-]*)@", text)}
    assert named <= {units.CLUSTER, units.WATCH, paths.CLAIMS, paths.VRRP}


@pytest.mark.parametrize(
    "address",
    ["192.0.2.2 } accept\n}}\ntable ip evil { }\n#", "192.0.2.2\n}\nglobal_defs {", ["192.0.2.2"], {"a": 1}, 5],
)
def test_an_address_in_the_facts_of_a_host_is_no_text_for_other_hosts(address: t.Any) -> None:
    hosts = [Host(number) for number in (1, 2)]
    hosts[1].variables["ansible_facts"]["eth0"]["ipv4"] = {"address": address, "netmask": "255.255.255.0"}
    reported = {host.name: host.template("{{ __clusterip_cluster_settings }}") for host in hosts}
    with pytest.raises(AnsibleFilterError, match=r"\bh2 reports it"):
        cluster_ring(reported)


def test_a_new_ring_has_a_group_and_identifiers_that_other_routers_do_not_use() -> None:
    (host, *_others) = ring_of_hosts(installed=False, clusterip_cluster_total_nodes=256, clusterip_cluster_slots=64)
    text = host.file("keepalived.conf")
    assert "    vrrp_mcast_group4 224.0.0.181\n" in text
    assert re.findall(r"virtual_router_id (\d+)", text) == [str(vrid) for vrid in range(192, 256)]
    rules = host.file("vrrp.nft")
    assert 'iifname "eth0" ip protocol 112 ip daddr 224.0.0.181 @th,8,8 192-255 jump slots' in rules


def test_an_installed_ring_keeps_what_it_has() -> None:
    (host, *_others) = ring_of_hosts()
    assert "vrrp_mcast_group4" not in host.file("keepalived.conf")
    assert "virtual_router_id 1\n" in host.file("keepalived.conf")
    assert "ip daddr 224.0.0.18 @th,8,8 1-4 jump slots" in host.file("vrrp.nft")


def test_the_identifiers_of_an_installed_ring_are_read_from_the_configuration_of_keepalived() -> None:
    made = ring_of_hosts(clusterip_cluster_first_vrid=101)
    conf = base64.b64encode((GOLDEN / "unicast-keepalived.conf").read_bytes()).decode()
    for content, expected in (
        ({"content": conf}, {"first_vrid": 101, "placeholder": 101, "group": "224.0.0.18"}),
        ({"skipped": True}, {}),
        ({"content": base64.b64encode(b"virtual_router_id 99999; x").decode()}, {}),
    ):
        found = made[0].template("{{ __clusterip_cluster_stored_election }}", clusterip_cluster_keepalived_file=content)
        assert found == expected


def test_the_filter_accepts_both_elections_while_the_ring_changes() -> None:
    (host, *_others) = ring_of_hosts(clusterip_cluster_first_vrid=101)
    ring = host.variables["clusterip_cluster_ring"]
    old = {"group": "224.0.0.18", "first": 1, "last": 4}
    ring["vrrp"]["accepted"] = [{"group": "224.0.0.181", "first": 192, "last": 195}, old]
    both = host.file("vrrp.nft")
    assert "ip daddr 224.0.0.181 @th,8,8 192-195 jump slots" in both
    assert "ip daddr 224.0.0.18 @th,8,8 1-4 jump slots" in both
    host.variables["__clusterip_cluster_both"] = False
    assert "224.0.0.18 " not in host.file("vrrp.nft")
    host.variables["__clusterip_cluster_kept"] = [2, 6]
    kept = host.file("keepalived.conf")
    usual = [one["priorities"]["h1"] for one in ring["vrrp"]["instances"]]
    assert re.findall(r"priority (\d+)", kept) == [str(254 if n == 1 else value) for n, value in enumerate(usual)]
