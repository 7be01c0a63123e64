# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Effects of the role pki on the hosts and on the controller."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from testinfra.host import Host

NODE = "/etc/clustered-openvpn/vpn"
AUTHORITY = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "pki"


def test_the_certificate_is_a_server_s_of_this_authority(host: Host) -> None:
    host.check_output(
        f"openssl verify -purpose sslserver -crl_check -CRLfile {NODE}/crl.pem -CAfile {NODE}/ca.crt {NODE}/server.crt"
    )


def test_certificate_and_key_belong_together(host: Host) -> None:
    of_certificate = host.check_output(f"openssl x509 -noout -pubkey -in {NODE}/server.crt")
    assert of_certificate == host.check_output(f"openssl pkey -pubout -in {NODE}/server.key")


@pytest.mark.parametrize("name", ["server.key", "tls-crypt.key"])
def test_only_the_service_reads_keys(host: Host, name: str) -> None:
    key = host.file(f"{NODE}/{name}")
    assert (key.user, key.mode) == ("openvpn", 0o600)
    assert host.run(f"runuser -u openvpn -- cat {NODE}/{name}").rc == 0
    assert host.run(f"runuser -u nobody -- cat {NODE}/{name}").rc != 0


def test_nothing_else_is_there(host: Host) -> None:
    names = ["ca.crt", "crl.pem", "server.crt", "server.key", "tls-crypt.key"]
    assert host.check_output(f"ls -A {NODE}").split() == names


def test_hosts_have_the_same(host: Host) -> None:
    for name in ("ca.crt", "crl.pem", "server.crt", "tls-crypt.key"):
        assert host.file(f"{NODE}/{name}").content_string.strip() == (AUTHORITY / name).read_text().strip()


def test_people_have_certificates_on_the_controller() -> None:
    names = sorted(path.name for path in (AUTHORITY / "clients").iterdir())
    assert names == ["alice.crt", "alice.key", "bob.crt", "bob.key"]
    assert not any(path.stat().st_mode & 0o077 for path in AUTHORITY.rglob("*.key"))
