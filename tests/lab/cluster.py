# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster that the site playbook makes on a host of a lab, and its clients, for several tests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
from integration.served import SHOW, State, lines_of

from ansible_collections.clustered.openvpn.plugins.filter.cluster import bucket_member
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn import management

from .hosts import Hosts
from .system import Cgroup

SITE = Path(__file__).parents[2] / "playbooks/site.yml"
ADDRESS = "203.0.113.20"
INSIDE = "10.255.0.1"  # the host, for who is in the tunnel
PORTS = {"udp": 1194, "tcp": 443}
INSTANCES = [
    {"name": name, "protocol": name, "port": port, "pool": f"10.{8 + i}.0.0/16"}
    for i, (name, port) in enumerate(PORTS.items())
]


class Run:
    """The output of a run of the playbook."""

    def __init__(self, output: str, status: int):
        self.output = output
        found = re.search(r"^h1 .*changed=(\d+) ", output, re.M)
        self.changed = int(found[1]) if found else -1
        self.ok = status == 0


class Cluster(Hosts):
    """A lab with one host and a cluster on it."""

    def __init__(self, what: str, directory: Path, clients: int, **variables: t.Any):
        super().__init__(what, directory, 1, clients)
        self.variables: dict[str, t.Any] = {
            "netns_cluster_interface": "eth0",
            "netns_cluster_address": ADDRESS,
            "netns_cluster_instances": INSTANCES,
            "pki_directory": str(self.pki),
            "pki_clients": [{"name": f"c{i + 1}"} for i in range(clients)],
            **variables,
        }

    # --- on the host ----------------------------------------------------------------------------------------------

    def run(self, command: str, *, check: bool = True) -> str:
        """The output of a shell command there."""
        return self.run_on("h1", command, check=check)

    def begin(self, *, whole: bool = True, **variables: t.Any) -> subprocess.Popen[str]:
        """A run of the playbook; all of its processes, however they detach themselves, are in controller().

        whole: with the roles prerequisites and pki, which take most of the time.
        """
        given = self.directory / "vars.json"
        parts = {"netns_cluster_prerequisites": whole, "netns_cluster_pki": whole}
        given.write_text(json.dumps({**self.variables, **parts, **variables}))
        self.controller().make()
        return subprocess.Popen(
            ["ansible-playbook", "-i", self.directory / "hosts.json", "-e", f"@{given}", "--diff", SITE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=self.controller().join,
        )

    def controller(self) -> Cgroup:
        """The control group of the machine that runs Ansible, so to speak."""
        return Cgroup(f"lab-{self.lab.name}/controller")

    def play(self, *, whole: bool = True, **variables: t.Any) -> Run:
        """Run the playbook to its end."""
        process = self.begin(whole=whole, **variables)
        run = Run(process.communicate(timeout=600)[0], process.returncode)
        assert run.ok, run.output[-4000:]
        return run

    def layout(self) -> dict[str, t.Any]:
        """The desired state."""
        return json.loads(self.run("cat /etc/clustered-openvpn/vpn.json"))

    def units(self) -> list[str]:
        """Of the instances that are wanted."""
        return [f"openvpn-server@{server['name']}" for server in self.layout()["servers"]]

    def state(self) -> State:
        """Everything in the kernel, of the host and of all members that there are."""
        members = self.run("ip netns list | cut -d' ' -f1").split()
        layouts = self.run("find /etc -path '/etc/clustered-openvpn/*.json' -exec cat {} +")
        macs = set(re.findall(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", layouts))
        found = {"the host": lines_of(self.run(SHOW), macs)}
        return {**found, **{m: lines_of(self.run(f"ip netns exec {m} bash -c '{SHOW}'"), macs) for m in members}}

    # --- OpenVPN --------------------------------------------------------------------------------------------------

    def ask(self, server: str, question: t.Callable[[management.Management], t.Any]) -> t.Any:
        """Ask a server by its management socket, as root on the host would. None: it does not answer."""
        leader = self.lab.host("h1").leader()
        path = f"/proc/{leader}/root/run/clustered-openvpn/{server}/management.sock"
        try:
            return management.ask(path, question)
        except management.ManagementError:
            return None

    def is_ready(self, server: str) -> bool:
        """Whether its state is CONNECTED,SUCCESS."""
        state = self.ask(server, management.Management.state)
        return state is not None and state.ready

    def served(self) -> dict[str, list[tuple[str, management.Client]]]:
        """Common name -> by which members it is served."""
        found: dict[str, list[tuple[str, management.Client]]] = {}
        for server in self.layout()["servers"]:
            status = self.ask(server["name"], management.Management.status)
            for client in status.clients if status else ():
                if client.virtual_address:
                    found.setdefault(client.common_name, []).append((server["netns"], client))
        return found

    def owner(self, address: str) -> str | None:
        """The member that is to serve who comes from there."""
        layout = self.layout()
        owners = {member["name"]: member["local_nodes"] for member in layout["members"]}
        return bucket_member(address, owners, layout["cluster"]["total_nodes"], layout["cluster"]["hash_init"])

    def predicted(self) -> dict[str, list[str | None]]:
        """Common name -> the one member that is to serve it."""
        return {client.name: [self.owner(client.address)] for client in self.clients}

    def wait_until_served_as_predicted(self, seconds: float) -> dict[str, list[tuple[str, management.Client]]]:
        """Every client by its owner, by nobody else; the status of the servers then."""
        wanted = self.predicted()
        end = time.monotonic() + seconds
        while True:
            served = self.served()
            if {name: [member for member, _client in by] for name, by in served.items()} == wanted:
                return served
            assert time.monotonic() < end, f"after {seconds} s: wanted {wanted}, but {served}"
            time.sleep(0.1)

    def connect(self, protocols: t.Sequence[str] = ("udp",)) -> None:
        """All clients, the protocols in turn."""
        for i, client in enumerate(self.clients):
            protocol = protocols[i % len(protocols)]
            client.begin(*client.options_as(client.name, ADDRESS, PORTS[protocol], protocol))
        for client in self.clients:
            client.wait_until_connected(60)


def say(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Tell a figure, also where tests run in several processes: these have no standard output."""
    with capsys.disabled():
        print(f"\n  {text}", file=sys.stderr, flush=True)


def wait_until(condition: t.Callable[[], object], seconds: float, what: str) -> float:
    """Wait until it holds; the seconds that it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() < start + seconds, f"waited {seconds} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - start
