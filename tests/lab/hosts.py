# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts and clients of a lab for a file of tests: up, with an inventory for Ansible; gone at the end."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from .client import LAB, Client
from .main import Lab

KEPT = Path(__file__).parents[2] / ".cache/lab"
SUITE = os.environ.get("SUITE", "bookworm")


class Hosts:
    """A lab that is up; C(hosts.json), in the directory, is its inventory."""

    def __init__(self, what: str, directory: Path, hosts: int, clients: int):
        self.lab = Lab(f"{what}{os.getpid()}")
        self.directory = directory
        self.pki = directory / "pki"
        self._logs = KEPT / what
        self.clients: list[Client] = []
        self.tool("up", "--hosts", str(hosts), "--clients", str(clients), "--suite", SUITE)
        inventory = self.lab.inventory()
        (directory / "hosts.json").write_text(json.dumps(inventory, default=str))
        known = inventory["all"]["vars"]["lab_clients"]
        self.clients = [Client(self.lab.name, c["name"], c["address"], directory, self.pki) for c in known]

    def tool(self, verb: str, *args: str) -> None:
        """Run the lab's tool."""
        done = subprocess.run(
            [LAB, verb, self.lab.name, *args], capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, done.stderr

    def remove(self) -> None:
        """Remove everything; the hosts' logs stay in .cache/lab."""
        try:
            self.tool("logs", str(self._logs))
        finally:
            self.tool("down")
            for client in self.clients:
                client.disconnect()  # it has ended with the lab

    def run_on(self, host: str, command: str, *, check: bool = True) -> str:
        """The output of a shell command on a host."""
        line = self.lab.host(host).command("bash", "-c", command)
        done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
        assert not check or done.returncode == 0, f"{host}: {command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()
