# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lab for tests with real OpenVPN processes: keys, configurations, and calls of the modules."""

from __future__ import annotations

import shutil
import tempfile
import typing as t
from pathlib import Path

from .world import World, call_here, sh

USER, GROUP = "nobody", "nogroup"
TIMEOUT = 20
RUN = Path("/run/clustered-openvpn")
VPN = "10.98.0"  # the first three bytes of the server's pool


def make_pki(directory: Path) -> None:
    """Create a CA, certificates for a server and a client, and a tls-crypt key, readable by the instances' user."""
    sh(
        f"""cd {directory} && umask 022
        ca="openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 2"
        key="openssl ecparam -name prime256v1 -genkey -noout -out"
        $key ca.key && openssl req -x509 -new -key ca.key -days 2 -subj /CN=test-ca -out ca.crt
        for name in server client; do
          $key $name.key && openssl req -new -key $name.key -subj /CN=$name -out $name.csr
          printf 'keyUsage=digitalSignature\\nextendedKeyUsage=%sAuth\\n' $name >$name.ext
          $ca -in $name.csr -extfile $name.ext -out $name.crt
        done
        openvpn --genkey tls-crypt tls-crypt.key
        chown {USER} *.key"""
    )


class OpenVpnLab(World):
    """A world with a namespace for the server (the host, 192.0.2.2) and one for the client (192.0.2.101)."""

    def __init__(self, prefix: str, pki: Path):
        super().__init__(prefix)
        self.directory = Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
        shutil.copytree(pki, self.directory, dirs_exist_ok=True)
        self.directory.chmod(0o755)
        sh(f"chown {USER} {self.directory}/*.key")
        self.instances: list[dict[str, t.Any]] = []
        (self.client_netns,) = self.lan(clients=1)

    def write(self, name: str, text: str) -> Path:
        """Write a file to the directory of the keys."""
        path = self.directory / name
        path.write_text(text)
        return path

    def instance(self, short: str, config: str, netns: str, role: str = "server") -> dict[str, t.Any]:
        """Write a configuration and return the instance as the module's parameter."""
        path = self.write(f"{short}.conf", config)
        made = {"name": self.name(short), "role": role, "netns": netns, "config": str(path), "user": USER}
        made["group"] = GROUP
        self.instances.append(made)
        return made

    def server(self, short: str = "s", *, port: int = 1194, extra: str = "") -> dict[str, t.Any]:
        """A server in the host's namespace."""
        return self.instance(short, self.server_config(short, port=port, extra=extra), self.host)

    def server_config(self, short: str = "s", *, port: int = 1194, extra: str = "") -> str:
        """The configuration of a server; the shared part is in an included file."""
        self.write("shared.conf", "ca ca.crt\ncert server.crt\nkey server.key\ntls-crypt tls-crypt.key\ndh none\n")
        return (
            f"config shared.conf\ndev tun-{short}\ndev-type tun\nproto udp4\nlocal 192.0.2.2\nport {port}\n"
            f"topology subnet\nserver {VPN}.0 255.255.255.0\nkeepalive 2 10\nverb 3\n{extra}"
        )

    def client(self, short: str = "c", *, port: int = 1194, extra: str = "") -> dict[str, t.Any]:
        """A client in its own namespace."""
        config = (
            f"client\ndev tun-{short}\ndev-type tun\nproto udp4\nremote 192.0.2.2 {port}\nca ca.crt\n"
            f"cert client.crt\nkey client.key\ntls-crypt tls-crypt.key\nremote-cert-tls server\nverb 3\n{extra}"
        )
        return self.instance(short, config, self.client_netns, "client")

    def call(self, module: str, *, check: bool = False, **args: t.Any) -> dict[str, t.Any]:
        """Run a module as Ansible does and return its result, also if it failed."""
        args = {"supervisor": "process", "_ansible_check_mode": check, "_ansible_diff": True, **args}
        return call_here(module, args)

    def ensure(self, *instances: t.Mapping[str, t.Any], state: str = "started", **args: t.Any) -> dict[str, t.Any]:
        """The result of openvpn_instance, also if it failed."""
        args = {"timeout": TIMEOUT, **args}
        return self.call("openvpn_instance", instances=list(instances), state=state, **args)

    def info(self, *instances: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
        """The instances in the result of openvpn_instance_info."""
        return self.call("openvpn_instance_info", instances=[i["name"] for i in instances])["instances"]

    def remove(self) -> None:
        """Remove the instances with the module, then everything else."""
        try:
            if self.instances:
                result = self.ensure(*self.instances, state="absent")
                assert not result.get("failed"), result
        finally:
            super().remove()
            shutil.rmtree(self.directory, ignore_errors=True)
            for made in self.instances:
                for path in (f"/run/clustered-openvpn/{made['name']}", f"/var/lib/clustered-openvpn/{made['name']}"):
                    shutil.rmtree(path, ignore_errors=True)
