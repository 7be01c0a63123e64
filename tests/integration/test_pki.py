# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role pki with a directory on the controller and two hosts. tests/unit/plugins/filter tests its decisions."""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import typing as t
from dataclasses import dataclass
from pathlib import Path

import pytest
from certificates import Authority, private
from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn import certificates, der

HOSTS = ("h1", "h2")
# The name of an authority of easy-rsa 2.
PRINTABLE_NAME = x509.Name(
    [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example  Corp", _ASN1Type.PrintableString),
        x509.NameAttribute(NameOID.COMMON_NAME, "Example CA", _ASN1Type.PrintableString),
    ]
)


@dataclass
class Run:
    """C(changed), C(failed): by host."""

    output: str
    changed: dict[str, int]
    failed: dict[str, int]


class Controller:
    """A controller and two hosts, whose files are all below one directory."""

    def __init__(self, root: Path) -> None:
        self.root, self.pki = root, root / "pki"

    def play(self, *options: str, role: str = "pki", **variables: t.Any) -> Run:
        """Run a role on both hosts."""
        lines = [
            f"{host} ansible_connection=local ansible_python_interpreter=/usr/bin/python3 pki_node_directory={path}"
            for host, path in zip(HOSTS, map(self.node, HOSTS))
        ]
        (self.root / "hosts").write_text("\n".join(lines) + "\n")
        given = {
            "pki_directory": str(self.pki),
            "openvpn_client_pki_directory": str(self.pki),
            "pki_user": "nobody",
            "pki_group": "nogroup",
            **variables,
        }
        play = [{"hosts": "all", "gather_facts": False, "roles": [f"clustered.openvpn.{role}"]}]
        (self.root / "play.yml").write_text(json.dumps(play))
        (self.root / "vars.json").write_text(json.dumps(given))
        command = ["ansible-playbook", "-i", "hosts", "-e", "@vars.json", *options, "play.yml"]
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, timeout=300, check=False)
        output = done.stdout + done.stderr
        recap = re.findall(r"^(h\d) .*changed=(\d+) .*failed=(\d+)", output, re.M)
        assert len(recap) == len(HOSTS), output[-4000:]
        return Run(output, {one[0]: int(one[1]) for one in recap}, {one[0]: int(one[2]) for one in recap})

    def node(self, host: str) -> Path:
        """The directory of a host's certificates."""
        return self.root / host

    def files(self) -> dict[Path, bytes]:
        """All files of the hosts and in directories on the controller."""
        return {path: path.read_bytes() for path in self.root.rglob("*") if path.is_file() and path.parent != self.root}


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    return Controller(tmp_path)


def one(path: Path) -> der.Signed:
    data = path.read_bytes()
    (found,) = der.certificates(data) or der.revocation_lists(data)
    return found


DONE = dict.fromkeys(HOSTS, 0)


def test_an_authority_in_use_is_kept(controller: Controller) -> None:
    """Case by case with one authority, since the first run takes most of the time."""
    given: dict[str, t.Any] = {"pki_clients": [{"name": 1001}, {"name": "bob"}], "pki_ca_passphrase": "correct-horse"}
    first = controller.play(**given)
    assert first.failed == DONE, first.output[-4000:]
    made = controller.files()
    assert (controller.pki / "clients/1001.crt") in made

    # another name of the cluster, and a name that YAML reads as a number
    again = controller.play("-vvv", "--diff", pki_name="web", **given)
    assert (again.failed, again.changed) == (DONE, DONE)
    assert "PRIVATE KEY" not in again.output
    assert controller.files() == made

    # a second administrator, who adds a host
    for path in controller.node("h2").iterdir():
        path.unlink()
    before = controller.files()
    other = controller.play(**{**given, "pki_directory": str(controller.root / "empty")})
    assert (other.failed, other.changed) == (dict.fromkeys(HOSTS, 1), DONE), other.output[-4000:]
    ca, place = one(controller.pki / "ca.crt"), controller.node("h1")
    error = f"empty has no authority, but h1:{place} has the authority CN=vpn CA (SHA-256 {ca.fingerprint})"
    assert error in re.sub(r"\s+", " ", other.output)
    assert controller.files() == before
    assert not (controller.root / "empty").exists()

    # profiles: the number is a name here as well, and a certificate of another authority is refused
    (controller.pki / "clients/stale.crt").write_bytes(Authority("old CA").issue("stale", "client")[0])
    client: dict[str, t.Any] = {"role": "openvpn_client", "openvpn_client_remotes": [{"host": "192.0.2.1"}]}
    stale = controller.play(openvpn_client_profiles=[1001, "stale"], **client)
    assert (stale.failed, stale.changed) == (dict.fromkeys(HOSTS, 1), DONE)
    assert "stale: not issued by CN=vpn CA but by CN=old CA" in re.sub(r"\s+", " ", stale.output)
    (controller.pki / "clients/stale.crt").unlink()
    profile = controller.play(openvpn_client_profiles=[1001], **client)
    assert profile.failed == DONE, profile.output[-4000:]
    text = (controller.pki / "profiles/1001.ovpn").read_text()
    assert "\ndev tun\n" in text
    assert (controller.pki / "clients/1001.crt").read_text().strip() in text

    revoked = controller.play(pki_revoked=[1001], **given)
    assert revoked.failed == DONE, revoked.output[-4000:]
    assert set(one(controller.node("h2") / "crl.pem").revoked) == {one(controller.pki / "clients/1001.crt").serial}


def test_an_external_authority_with_a_list_of_its_own(controller: Controller) -> None:
    authority = Authority(PRINTABLE_NAME, until=4000, identifiers=True)
    crl = controller.root / "own.crl"
    (controller.root / "own.crt").write_bytes(authority.pem)
    (controller.root / "own.key").write_bytes(private(authority.key))
    crl.write_bytes(authority.revocations(26, 27))
    given = {
        "pki_ca_certificate": str(controller.root / "own.crt"),
        "pki_ca_private_key": str(controller.root / "own.key"),
        "pki_clients": [{"name": "bob"}],
    }
    silent = controller.play(**given)
    assert (silent.failed, silent.changed) == (dict.fromkeys(HOSTS, 1), DONE)
    assert "pki_ca_crl: empty, but O=Example  Corp,CN=Example CA" in re.sub(r"\n\s+", " ", silent.output)
    assert not controller.pki.exists()

    given.update(pki_ca_crl=str(crl), pki_revoked_serials=["0x1F"])
    made = controller.play(**given)
    assert made.failed == DONE, made.output[-4000:]
    assert set(one(controller.node("h1") / "crl.pem").revoked) == {26, 27, 31}
    again = controller.play(**given)
    assert (again.failed, again.changed) == (DONE, DONE)

    # as openvpn_instance checks it before the start of a server
    names = {"ca": "ca.crt", "cert": "server.crt", "key": "server.key", "crl-verify": "crl.pem"}
    files = {
        option: certificates.Pem(name, (controller.node("h1") / name).read_bytes()) for option, name in names.items()
    }
    now = datetime.datetime.now(datetime.timezone.utc)
    assert certificates.check(files, "server", now) == certificates.Findings()
