# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts that an earlier commit has installed: a run of today changes files of its own, and disturbs nobody.

UPGRADE_FROM names the commit; it must be in the clone's history.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn import management

from .cluster import ADDRESS, INSTANCES, PORTS, say, wait_until
from .hosts import Hosts

ROOT = Path(__file__).parents[2]
EARLIER = os.environ.get("UPGRADE_FROM", "de9d873")
# The tasks that may change something: those that install the boot program (and restart the watch, which is part of it),
# and those that save the desired state.
EXPECTED = re.compile(r"program|boot|desired state|[Ww]atch|hosts of the (ring|cluster)|ring|network managers", re.I)

pytestmark = pytest.mark.soak


@dataclasses.dataclass
class Outcome:
    """One run of a playbook."""

    output: str
    changed: dict[str, list[str]]  # host -> names of the tasks that changed something


class Installed(Hosts):
    """Hosts of a lab on which playbooks of any commit are run."""

    def __init__(self, name: str, directory: Path, hosts: int, clients: int, variables: dict[str, t.Any]):
        super().__init__(name, directory, hosts, clients)
        self.hosts = [host.name for host in self.lab.hosts()]
        self.variables = variables
        inventory = self.lab.inventory()
        groups = inventory["all"]["children"]
        groups["tunnel_bundle"] = {"hosts": dict.fromkeys(groups["clustered_openvpn"]["hosts"])}
        (directory / "hosts.json").write_text(json.dumps(inventory, default=str))

    def play(self, collections: Path, playbook: str) -> Outcome:
        """Run a playbook of the collection below a path; it must succeed."""
        given = self.directory / "vars.json"
        given.write_text(json.dumps({"pki_directory": str(self.pki), **self.variables}))
        path = collections / "ansible_collections/clustered/openvpn/playbooks" / playbook
        done = subprocess.run(
            ["ansible-playbook", "-i", self.directory / "hosts.json", "-e", f"@{given}", path],
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(collections),
                "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
        report = json.loads(done.stdout)
        changed: dict[str, list[str]] = {host: [] for host in self.hosts}
        for task in (task for play in report["plays"] for task in play["tasks"]):
            for host, result in task["hosts"].items():
                if result.get("changed"):
                    changed[host].append(task["task"]["name"].partition(" : ")[2])
        assert {host for host, tasks in changed.items() if tasks} == {
            host for host, counts in report["stats"].items() if counts["changed"]
        }
        return Outcome(done.stdout, changed)

    def processes(self) -> dict[str, str]:
        """Host -> its OpenVPN and keepalived processes, each with the moment at which it started."""
        command = "for p in $(pgrep -x 'openvpn|keepalived'); do echo $p $(cut -d' ' -f22 /proc/$p/stat); done | sort"
        return {host: self.run_on(host, command) for host in self.hosts}

    def sessions(self) -> dict[tuple[str, str, str], t.Any]:
        """(host, server, client) -> the moment at which the client connected."""
        found = {}
        for host in self.hosts:
            leader = self.lab.host(host).leader()
            for path in Path(f"/proc/{leader}/root/run/clustered-openvpn").glob("*/management.sock"):
                for client in management.ask(str(path), management.Management.status).clients:
                    if client.virtual_address:
                        found[host, path.parent.name, client.common_name] = client.connected_since
        return found


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection as it was, below ansible_collections."""
    directory = tmp_path_factory.mktemp("earlier")
    target = directory / "ansible_collections/clustered/openvpn"
    target.mkdir(parents=True)
    archive = subprocess.run(["git", "-C", ROOT, "archive", EARLIER], check=True, capture_output=True).stdout
    subprocess.run(["tar", "--extract", "--directory", target], input=archive, check=True)
    return directory


# playbook -> how many hosts, how many clients, variables
FORMS: dict[str, tuple[int, int, dict[str, t.Any]]] = {
    "site.yml": (
        1,
        3,
        {
            "netns_cluster_interface": "eth0",
            "netns_cluster_address": ADDRESS,
            "netns_cluster_instances": INSTANCES,
            "netns_cluster_size": 2,
            "pki_clients": [{"name": f"c{i}"} for i in (1, 2, 3)],
        },
    ),
    "many_hosts.yml": (
        2,
        3,
        {
            "clusterip_cluster_interface": "eth0",
            "clusterip_cluster_address": ADDRESS,
            "clusterip_cluster_members": 2,
            "clusterip_cluster_instances": INSTANCES,
            "pki_clients": [{"name": f"c{i}"} for i in (1, 2, 3)],
        },
    ),
    "bundle.yml": (
        2,
        0,
        {
            "tunnel_bundle_tunnels": 2,
            "tunnel_bundle_address": "{{ {'h1': '203.0.113.1', 'h2': '203.0.113.2'}[inventory_hostname] }}",
            "tunnel_bundle_networks": "{{ {'h1': ['192.168.1.0/24'], 'h2': ['192.168.2.0/24']}[inventory_hostname] }}",
            "tunnel_bundle_pki_directory": "{{ pki_directory }}",
        },
    ),
}


@pytest.mark.parametrize("playbook", FORMS)
def test_an_upgrade_restarts_nothing(
    playbook: str, earlier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts, clients, variables = FORMS[playbook]
    today = ROOT / ".cache/collections"
    made = Installed(f"up{playbook[0]}", tmp_path, hosts, clients, variables)
    try:
        made.play(earlier, playbook)
        assert made.play(earlier, playbook).changed == {host: [] for host in made.hosts}
        for client in made.clients:
            client.begin(*client.options_as(client.name, ADDRESS, PORTS["udp"], "udp"))
        for client in made.clients:
            client.wait_until_connected(60)
        wait_until(lambda: len(made.sessions()) == clients, 10, "all clients have a session")
        processes, sessions = made.processes(), made.sessions()
        assert all(processes.values()), processes
        upgrade = made.play(today, playbook)
        say(capsys, f"{playbook}: from {EARLIER}, changed: {upgrade.changed}")
        unexpected = [task for tasks in upgrade.changed.values() for task in tasks if not EXPECTED.search(task)]
        assert not unexpected, upgrade.output[-6000:]
        assert any(upgrade.changed.values()), "the earlier commit and this one are the same"
        assert made.processes() == processes, "a process was restarted"
        assert made.sessions() == sessions, "a client was dropped"
        assert made.play(today, playbook).changed == {host: [] for host in made.hosts}
    finally:
        made.remove()
