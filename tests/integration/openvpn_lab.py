# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real OpenVPN processes to test with: keys, configurations, and the modules that run them."""

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
    """A CA, a key pair for a server and one for a client, a tls-crypt key; readable by the instances' user."""
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
    """A world with a server's namespace (the host, 192.0.2.2) and one client's (192.0.2.101)."""

    def __init__(self, prefix: str, pki: Path):
        super().__init__(prefix)
        self.directory = Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
        shutil.copytree(pki, self.directory, dirs_exist_ok=True)
        self.directory.chmod(0o755)
        sh(f"chown {USER} {self.directory}/*.key")
        self.instances: list[dict[str, t.Any]] = []
        (self.client_netns,) = self.lan(clients=1)

    def write(self, name: str, text: str) -> Path:
        """A file beside the keys."""
        path = self.directory / name
        path.write_text(text)
        return path

    def instance(self, short: str, config: str, netns: str, role: str = "server") -> dict[str, t.Any]:
        """An instance with that configuration, as the module takes it."""
        path = self.write(f"{short}.conf", config)
        made = {"name": self.name(short), "role": role, "netns": netns, "config": str(path), "user": USER}
        made["group"] = GROUP
        self.instances.append(made)
        return made

    def server(self, short: str = "s", *, port: int = 1194, extra: str = "") -> dict[str, t.Any]:
        """A server in the host's namespace."""
        return self.instance(short, self.server_config(short, port=port, extra=extra), self.host)

    def server_config(self, short: str = "s", *, port: int = 1194, extra: str = "") -> str:
        """Its configuration: what is shared comes by an include."""
        self.write("shared.conf", "ca ca.crt\ncert server.crt\nkey server.key\ntls-crypt tls-crypt.key\ndh none\n")
        return (
            f"config shared.conf\ndev tun-{short}\ndev-type tun\nproto udp4\nlocal 192.0.2.2\nport {port}\n"
            f"topology subnet\nserver {VPN}.0 255.255.255.0\nkeepalive 2 10\nverb 3\n{extra}"
        )

    def client(self, short: str = "c", *, port: int = 1194, extra: str = "") -> dict[str, t.Any]:
        """A client in a namespace of its own."""
        config = (
            f"client\ndev tun-{short}\ndev-type tun\nproto udp4\nremote 192.0.2.2 {port}\nca ca.crt\n"
            f"cert client.crt\nkey client.key\ntls-crypt tls-crypt.key\nremote-cert-tls server\nverb 3\n{extra}"
        )
        return self.instance(short, config, self.client_netns, "client")

    def call(self, module: str, *, check: bool = False, **args: t.Any) -> dict[str, t.Any]:
        """Run a module as Ansible does; its result, failed or not."""
        args = {"supervisor": "process", "_ansible_check_mode": check, "_ansible_diff": True, **args}
        return call_here(module, args)

    def ensure(self, *instances: t.Mapping[str, t.Any], state: str = "started", **args: t.Any) -> dict[str, t.Any]:
        """openvpn_instance; whatever it says."""
        args = {"timeout": TIMEOUT, **args}
        return self.call("openvpn_instance", instances=list(instances), state=state, **args)

    def info(self, *instances: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
        """openvpn_instance_info of these instances."""
        return self.call("openvpn_instance_info", instances=[i["name"] for i in instances])["instances"]

    def remove(self) -> None:
        """End the instances by the module, then everything else without it."""
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
