# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host that the site playbook is run on, with an inventory and files of its own, and clients: for test_site*.py."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import typing as t
from pathlib import Path

from ansible_collections.clustered.openvpn.plugins.filter.cluster import bucket_member
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.management import (
    Client,
    Management,
    ManagementError,
    ask,
)

from .served import ServedWorld, states_of
from .world import on_host, sh

ADDRESS = "192.0.2.10"
CLIENTS = 8
PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
# Directories that each site has for itself, as if it were the only one on its machine.
PLACES = (
    *("/etc/clustered-openvpn", "/etc/openvpn/server", "/run/clustered-openvpn"),
    *("/var/lib/clustered-openvpn", "/var/log/clustered-openvpn"),
)


class Run:
    """What a playbook said."""

    def __init__(self, output: str):
        self.output = output
        found = re.search(r"^host .*changed=(\d+) .*failed=(\d+)", output, re.M)
        assert found, output[-3000:]
        self.changed, self.failed = int(found[1]), int(found[2])
        assert self.failed == 0, output[-3000:]
        self.changed_tasks = [
            block.split("\n")[0].strip("* ")
            for block in re.split(r"^TASK \[", output, flags=re.M)[1:]
            if re.search(r"^changed: ", block, re.M)
        ]


class Site:
    """A host with an inventory and files of its own, and clients."""

    account: t.ClassVar = {"user": "openvpn", "group": "openvpn"}  # that the role prerequisites makes
    bridged = False

    def __init__(self, tmp: Path):
        self.name = f"t{os.getpid() % 100000}"
        self.tmp = tmp
        # Not below tmp, whose name is too long for the sockets.
        self.root = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        # Somebody's last instance would take an empty directory of the machine along, and what is mounted on it here.
        self.held = [Path(place, f"{self.name}-mount") for place in PLACES]
        for path in [*map(self.path, PLACES), *self.held]:
            path.mkdir(parents=True)
        self.world = ServedWorld(self.name)
        self.world.enter = on_host(self.world.host, {place: self.path(place) for place in PLACES})
        self.world.lan(CLIENTS, bridged=self.bridged)
        self.clients: list[subprocess.Popen[bytes]] = []
        self.before, self.files_before = states_of([self.world.host]), self.files()

    def path(self, path: str) -> Path:
        """Where a file of the host is for us."""
        return self.root / path.lstrip("/")

    def files(self) -> set[str]:
        """Of OpenVPN and of ours, wherever they may be."""
        elsewhere = f"find /etc /run /var/lib /var/log -xdev -path '*openvpn*' -path '*{self.name}*'"
        return {str(path) for path in self.root.rglob("*")} | set(sh(elsewhere).splitlines())

    def play(self, *options: str, whole: bool = False, **variables: t.Any) -> Run:
        """Run site.yml on the host; without the roles prerequisites and pki unless it is to be whole."""
        names = [{"name": f"c{i + 1}"} for i in range(CLIENTS)]
        given = {
            "netns_cluster_name": self.name,
            "netns_cluster_interface": "nic0",
            "netns_cluster_address": ADDRESS,
            "netns_cluster_size": 2,
            "netns_cluster_hash_init": 7,
            "pki_directory": str(self.tmp / "pki"),
            "pki_clients": names,
            **{f"{role}_{kind}": name for role in ("openvpn_server", "pki") for kind, name in self.account.items()},
            **({} if whole else {"netns_cluster_prerequisites": False, "netns_cluster_pki": False}),
            **variables,
        }
        inventory = self.tmp / "hosts"
        inventory.write_text(
            "[clustered_openvpn]\nhost ansible_connection=local ansible_python_interpreter=/usr/bin/python3\n"
        )
        (self.tmp / "vars.json").write_text(json.dumps(given))
        command = ["ansible-playbook", "-i", str(inventory), "-e", f"@{self.tmp / 'vars.json'}", *options]
        done = subprocess.run(
            [*self.world.enter, *command, str(PLAYBOOKS / "site.yml")],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Run(done.stdout + done.stderr)

    def layout(self, name: str = "") -> dict[str, t.Any]:
        """The desired state on the host."""
        return json.loads(self.path(f"/etc/clustered-openvpn/{name or self.name}.json").read_text())

    def assert_settled(self, name: str = "") -> None:
        """The modules agree with the desired state: what a further play would say, but for the files."""
        layout = self.layout(name)
        keys = ("uplink", "interface", "bridge", "distribution", "hashmode", "force", "forward_ipv6", "hash_init")
        cluster = {k: layout["cluster"][k] for k in (*keys, "total_nodes", "services")}
        cluster.update(name=layout["name"], nodes=layout["nodes"])
        servers = [{k: s[k] for k in ("name", "netns", "cpus") if k in s} for s in layout["servers"]]
        for module, args in (
            ("netns", {"namespaces": layout["namespaces"]}),
            ("veth", {"veths": layout["veths"]}),
            ("bridge", {"bridges": layout["bridges"]}),
            *(("clusterip", {**cluster, **address}) for address in layout["addresses"]),
            ("openvpn_instance", {"instances": [{**server, **self.account} for server in servers]}),
        ):
            said = self.world.module(module, check=True, **args)
            assert not said["changed"], (module, said["commands"])

    def owner(self, i: int) -> str | None:
        """The member that is to serve client i."""
        layout = self.layout()
        owners = {m["name"]: m["local_nodes"] for m in layout["members"]}
        return bucket_member(self.address_of(i), owners, layout["cluster"]["total_nodes"], 7)

    def address_of(self, i: int) -> str:
        """Where client i comes from."""
        return f"192.0.2.{101 + i}"

    def remote(self, i: int) -> tuple[str, str, str]:
        """What client i connects to: address, port, protocol."""
        del i
        return ADDRESS, "1194", "udp"

    def connect(self, i: int) -> None:
        """Start a client."""
        pki = self.tmp / "pki"
        command = [
            *("openvpn", "--client", "--dev", "tun0", "--nobind", "--remote", *self.remote(i)),
            *("--ca", pki / "ca.crt", "--cert", pki / f"clients/c{i + 1}.crt", "--key", pki / f"clients/c{i + 1}.key"),
            *("--tls-crypt", pki / "tls-crypt.key", "--remote-cert-tls", "server", "--connect-retry", "1", "1"),
        ]
        with (self.tmp / f"c{i + 1}.log").open("wb") as log:
            netns = f"--net=/run/netns/{self.world.name(f'c{i + 1}')}"
            self.clients.append(
                subprocess.Popen(
                    ["nsenter", netns, *map(str, command)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
                )
            )

    def served(self) -> dict[str, list[tuple[str, Client]]]:
        """Common name -> by whom it is served."""
        result: dict[str, list[tuple[str, Client]]] = {f"c{i + 1}": [] for i in range(CLIENTS)}
        for server in self.layout()["servers"]:
            try:
                socket = self.path(f"/run/clustered-openvpn/{server['name']}/management.sock")
                status = ask(str(socket), Management.status)
            except ManagementError:
                continue
            for client in status.clients:
                if client.common_name in result and client.virtual_address:
                    result[client.common_name].append((server["netns"], client))
        return result

    def wait_until_served_as_predicted(self, seconds: float) -> dict[str, list[tuple[str, Client]]]:
        """Every client by its owner, and by nobody else; what the servers say then."""
        wanted = {f"c{i + 1}": self.owner(i) for i in range(CLIENTS)}
        deadline = time.monotonic() + seconds
        while True:
            served = self.served()
            if all([wanted[name]] == [member for member, _client in by] for name, by in served.items()):
                return served
            assert time.monotonic() < deadline, f"wanted {wanted}, but {served}"
            time.sleep(0.2)

    def through_tunnel(self, i: int, address: str) -> bool:
        """Whether a client's ping is answered."""
        return "1 received" in sh(f"ping -c 1 -W 2 {address}", self.world.name(f"c{i + 1}"), check=False)

    def remove(self) -> None:
        """Everything, whatever state it is in."""
        for client in self.clients:
            client.kill()
            client.wait()
        try:
            if self.path(f"/etc/clustered-openvpn/{self.name}.json").exists():
                self.play(whole=True, netns_cluster_state="absent")
        finally:
            for netns in self.members():  # where that failed
                sh(f"ip netns pids {netns} | xargs -r kill -9; ip netns del {netns}", check=False)
            self.world.remove()
            for path in [self.root, *self.held]:
                shutil.rmtree(path)

    def members(self) -> list[str]:
        """The namespaces that the cluster has, or has left behind."""
        return re.findall(rf"^[tu]{self.name[1:]}[0-9]+\b", sh("ip netns list"), re.M)
