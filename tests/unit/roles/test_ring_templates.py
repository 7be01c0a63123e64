# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files and names of the role clusterip_cluster.

keepalived reloads when keepalived.conf or vrrp.nft changes, so an upgrade must not change a byte of them. The files in
golden/ were rendered by the templates of commit de9d873.
"""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
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
    "unicast-failback": {"clusterip_cluster_unicast": True, "clusterip_cluster_failback": True},
    "ipv6": {
        "clusterip_cluster_ipv6_address": "2001:db8::10",
        "clusterip_cluster_name": "web-v6_x",
        "clusterip_cluster_advert_interval": 1,
        "clusterip_cluster_vrrp_interface": "br-lan",
    },
}


def variables_of(path: Path) -> dict[str, t.Any]:
    """A file of variables, with its templates. No loader finds the collection's filter; the values have their types."""
    typed = r" \| clustered\.openvpn\.as_specified\([^)]*\)"
    loaded = DataLoader().load_from_file(str(path), trusted_as_template=True)
    return {
        name: trust_as_template(re.sub(typed, "", value)) if "as_specified" in str(value) else value
        for name, value in loaded.items()
    }


class Host:
    """A host in a run of the role: its variables, and those of the role."""

    def __init__(self, number: int, **variables: t.Any) -> None:
        own = f"192.0.2.{number}"
        nic = {"ipv4": {"address": own, "netmask": "255.255.255.0", "prefix": "24", "network": "192.0.2.0"}}
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


def ring_of_hosts(**variables: t.Any) -> list[Host]:
    """All hosts of a run, after the role has laid out the ring."""
    hosts = [Host(number, **variables) for number in range(1, len(HOSTS) + 1)]
    ring = cluster_ring({host.name: host.template("{{ __clusterip_cluster_settings }}") for host in hosts})
    for host in hosts:
        host.variables["clusterip_cluster_ring"] = ring
    return hosts


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["keepalived.conf", "vrrp.nft"])
def test_files_of_the_ring_are_rendered_as_before(case: str, name: str) -> None:
    host = ring_of_hosts(**CASES[case])[1]
    assert host.file(name) == (GOLDEN / f"{case}-{name}").read_text()


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
