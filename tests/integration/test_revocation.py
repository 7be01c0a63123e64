# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""OpenVPN and the checks before its start agree on which revocation list is the CA's."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
from certificates import Authority
from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn import der

from .openvpn_lab import OpenVpnLab
from .world import sh

PRINTABLE = _ASN1Type.PrintableString
# As easy-rsa 2 and AD CS name their authorities, and as the role pki writes the name into its list.
CA_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Example  CA", PRINTABLE)])
LIST_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Example CA")])


@pytest.fixture
def lab(tmp_path: Path) -> t.Iterator[OpenVpnLab]:
    """A server that has a revocation list of its CA, with the CA's name in another encoding."""
    authority = Authority(CA_NAME)
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    for name in ("server", "client"):
        cert, key = authority.issue(name, name)
        (tmp_path / f"{name}.crt").write_bytes(cert)
        (tmp_path / f"{name}.key").write_bytes(key)
    (client,) = der.certificates((tmp_path / "client.crt").read_bytes())
    (tmp_path / "crl.pem").write_bytes(authority.revocations(issuer=LIST_NAME))
    (tmp_path / "revoked.pem").write_bytes(authority.revocations(client.serial, issuer=LIST_NAME))
    sh(f"openvpn --genkey tls-crypt {tmp_path}/tls-crypt.key")
    made = OpenVpnLab(f"r{os.getpid() % 100000}", tmp_path)
    try:
        yield made
    finally:
        made.remove()


def test_a_list_with_the_name_of_its_ca_in_another_encoding_is_in_force(lab: OpenVpnLab) -> None:
    server, client = lab.server(extra="crl-verify crl.pem\n"), lab.client(extra="connect-retry 1 1\n")
    for instance in (server, client):
        result = lab.ensure(instance)
        assert not result.get("failed"), result["msg"]
    (lab.directory / "crl.pem").write_bytes((lab.directory / "revoked.pem").read_bytes())
    result = lab.ensure(client, state="restarted", timeout=6)
    assert result.get("failed"), "the server accepts a revoked certificate"
    log = Path(f"/var/log/clustered-openvpn/{server['name']}.log").read_text()
    assert "certificate revoked" in log
