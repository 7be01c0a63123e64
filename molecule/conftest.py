# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clients of the lab, for the tests of all scenarios."""

from __future__ import annotations

import os
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
from testinfra.host import Host

LAB = Path(__file__).parents[1] / "tests/lab/lab"
PKI = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "pki"


class Client:
    """A client's namespace, maybe with an OpenVPN that is connected."""

    def __init__(self, lab: str, name: str, address: str, log: Path):
        self.address = address
        self._exec = [LAB, "exec", lab, name, "--"]
        self._log = log
        self._openvpn: subprocess.Popen[bytes] | None = None

    def run(self, *command: str) -> str:
        """What a command says there, well or not."""
        return subprocess.run([*self._exec, *command], capture_output=True, text=True, timeout=30, check=False).stdout

    def connect(self, *options: str, seconds: float = 30) -> None:
        """Run OpenVPN there, and wait until it is connected."""
        with self._log.open("w") as log:
            command = [*self._exec, "openvpn", "--dev", "tun0", *options]
            self._openvpn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + seconds
        while "Initialization Sequence Completed" not in self._log.read_text():
            assert self._openvpn.poll() is None, self._log.read_text()
            assert time.monotonic() < end, self._log.read_text()
            time.sleep(0.1)

    def connect_as(self, name: str, address: str, port: int, protocol: str) -> None:
        """Do so with one of the certificates of the role pki."""
        files = {
            "ca": "ca.crt",
            "cert": f"clients/{name}.crt",
            "key": f"clients/{name}.key",
            "tls-crypt": "tls-crypt.key",
        }
        options = [word for option, path in files.items() for word in (f"--{option}", str(PKI / path))]
        remote = ("--remote", address, str(port), "tcp-client" if protocol == "tcp" else protocol)
        self.connect(
            "--client", "--nobind", "--remote-cert-tls", "server", "--connect-retry", "1", "1", *remote, *options
        )

    def tunnel_address(self) -> str:
        """Its address in the tunnel."""
        return self.run("ip", "-br", "-4", "addr", "show", "tun0").split()[2].split("/")[0]

    def pings(self, address: str) -> bool:
        """Whether one of a few pings is answered."""
        return " 0 received" not in self.run("ping", "-c", "3", "-i", "0.2", "-W", "2", address)

    def disconnect(self) -> None:
        """End its OpenVPN."""
        if self._openvpn:
            self._openvpn.terminate()
            self._openvpn.wait(timeout=20)
            self._openvpn = None


@pytest.fixture
def clients(host: Host, tmp_path: Path) -> t.Iterator[list[Client]]:
    """The clients of the lab; those that connect are disconnected after the test."""
    known = host.ansible.get_variables()
    made = [
        Client(known["lab_name"], c["name"], c["address"], tmp_path / f"{c['name']}.log") for c in known["lab_clients"]
    ]
    yield made
    for client in made:
        client.disconnect()
