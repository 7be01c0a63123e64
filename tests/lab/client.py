# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A client of the lab with a real OpenVPN, for the tests of the lab and of molecule."""

from __future__ import annotations

import subprocess
import time
import typing as t
from pathlib import Path

LAB = Path(__file__).with_name("lab")


class Client:
    """A client's namespace, maybe with an OpenVPN that is connected."""

    def __init__(self, lab: str, name: str, address: str, directory: Path, pki: Path):
        self.name = name
        self.address = address
        self.log = directory / f"{name}.log"
        self._pki = pki
        self._exec = [str(LAB), "exec", lab, name, "--"]
        self._openvpn: subprocess.Popen[bytes] | None = None

    def run(self, *command: str) -> str:
        """The output of a command there, successful or not."""
        return subprocess.run([*self._exec, *command], capture_output=True, text=True, timeout=30, check=False).stdout

    def popen(self, *command: str, **how: t.Any) -> subprocess.Popen[t.Any]:
        """A command that runs there; it ends with the lab, at the latest."""
        return subprocess.Popen([*self._exec, *command], **how)

    def move(self, address: str) -> None:
        """Give it another address of the LAN."""
        self.run("ip", "addr", "flush", "dev", "eth0")
        self.run("ip", "addr", "add", f"{address}/24", "dev", "eth0")
        self.address = address

    def connect(self, *options: str, seconds: float = 30) -> None:
        """Run OpenVPN there, and wait until it is connected."""
        self.begin(*options)
        self.wait_until_connected(seconds)

    def begin(self, *options: str) -> None:
        """Run OpenVPN there."""
        with self.log.open("w") as log:
            self._openvpn = self.popen(
                *("openvpn", "--dev", "tun0", *options), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def wait_until_connected(self, seconds: float = 30) -> None:
        """Wait until it is connected for the first time."""
        assert self._openvpn is not None
        end = time.monotonic() + seconds
        while "Initialization Sequence Completed" not in self.log.read_text():
            assert self._openvpn.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.1)

    def options_as(self, name: str, address: str, port: int, protocol: str) -> list[str]:
        """Those with which it uses one of the certificates of the role pki."""
        files = {
            "ca": "ca.crt",
            "cert": f"clients/{name}.crt",
            "key": f"clients/{name}.key",
            "tls-crypt": "tls-crypt.key",
        }
        transport = "tcp-client" if protocol == "tcp" else protocol
        return [
            *("--client", "--nobind", "--persist-key", "--persist-tun", "--remote-cert-tls", "server"),
            *("--connect-retry", "1", "1", "--remote", address, str(port), transport),
            *(("--explicit-exit-notify", "1") if protocol == "udp" else ()),
            *(word for option, path in files.items() for word in (f"--{option}", str(self._pki / path))),
        ]

    def connect_as(self, name: str, address: str, port: int, protocol: str) -> None:
        """Connect with one of them."""
        self.connect(*self.options_as(name, address, port, protocol))

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
            try:
                self._openvpn.wait(timeout=20)
            finally:
                self._openvpn.kill()
                self._openvpn = None
