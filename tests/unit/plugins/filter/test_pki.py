# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decisions of the role pki about a directory on the controller and the certificates of hosts."""

from __future__ import annotations

import base64
import hashlib
import typing as t
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from certificates import Authority, private
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ansible_collections.clustered.openvpn.plugins.filter.pki import pki_plan, pki_unusable
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn import der, issuance

CA, OTHER, IMPOSTOR = (Authority(name, until=5000, identifiers=True) for name in ("vpn CA", "other CA", "vpn CA"))
STATIC_KEY = b"-----BEGIN OpenVPN Static key V1-----\n00\n-----END OpenVPN Static key V1-----\n"
ALICE = CA.issue("alice", "client", until=800)
(ALICE_SERIAL,) = [one.serial for one in der.certificates(ALICE[0])]


def fill(directory: Path, **changes: bytes | None) -> Path:
    """A directory as the role leaves it; a file is named like its path, C(clients__bob_crt). C(None): without it."""
    server, key = CA.issue("vpn", "server", until=800)
    files: dict[str, bytes | None] = {
        "ca_crt": CA.pem,
        "ca_key": private(CA.key),
        "server_crt": server,
        "server_key": key,
        "crl_pem": CA.revocations(7, until=3000),
        "tls-crypt_key": STATIC_KEY,
        "clients__alice_crt": ALICE[0],
        "clients__alice_key": ALICE[1],
        **changes,
    }
    (directory / "clients").mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        path = directory / name.replace("__", "/").replace("_", ".")
        if data is not None:
            path.write_bytes(data)
        else:
            path.unlink(missing_ok=True)
    return directory


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return fill(tmp_path / "pki")


def planned(
    directory: Path, passphrase: str = "", hosts: t.Sequence[t.Any] = (), **settings: t.Any
) -> dict[str, t.Any]:
    given = {"clients": [{"name": "alice"}], **settings}
    return pki_plan({"directory": str(directory), **given}, passphrase, hosts)


def host(*same: str, tls_crypt: bytes | None = STATIC_KEY, **files: bytes) -> dict[str, t.Any]:
    """A host whose files are the same as on the controller, or these: C(ca_crt) is ca.crt."""
    return {
        "name": "h1",
        "node_directory": "/etc/clustered-openvpn/vpn",
        "same": list(same),
        "content": {name.replace("_", "."): base64.b64encode(data).decode() for name, data in files.items()},
        "tls_crypt": "" if tls_crypt is None else hashlib.sha1(tls_crypt).hexdigest(),
    }


def external(tmp_path: Path, authority: Authority = CA, **settings: t.Any) -> dict[str, t.Any]:
    (tmp_path / "own.crt").write_bytes(authority.pem)
    (tmp_path / "own.key").write_bytes(private(authority.key))
    return {"ca_certificate": str(tmp_path / "own.crt"), "ca_private_key": str(tmp_path / "own.key"), **settings}


def test_a_complete_directory_needs_nothing(directory: Path) -> None:
    before = sorted(directory.rglob("*"))
    plan = planned(directory, hosts=[host("ca.crt", "server.crt", "crl.pem")])
    assert plan == {
        "refusals": [],
        "renew_ca": False,
        "renew_server": False,
        "renew_crl": False,
        "server_common_name": "vpn",
        "missing": [],
        "compromised": [],
        "revoke": [],
    }
    assert sorted(directory.rglob("*")) == before


def test_an_empty_directory(tmp_path: Path) -> None:
    plan = planned(tmp_path / "none", hosts=[host(tls_crypt=None)])
    assert (plan["refusals"], plan["missing"]) == ([], ["alice"])
    assert plan["renew_ca"]
    assert plan["renew_crl"]
    assert planned(tmp_path / "none", name="web")["server_common_name"] == "web"


# --- an authority in use is not replaced ------------------------------------------------------------------------------


def test_another_name_of_the_cluster_changes_nothing(directory: Path) -> None:
    assert planned(directory, name="web") == planned(directory)
    (error,) = planned(directory, ca_common_name="web CA")["refusals"]
    assert error.startswith(f"pki_ca_common_name: 'web CA', but the authority in {directory} is CN=vpn CA; ")
    assert planned(directory, ca_common_name="vpn CA")["refusals"] == []
    (error,) = planned(directory, server_common_name="web")["refusals"]
    assert error.startswith("pki_server_common_name: 'web', but the server's certificate")
    assert planned(directory, server_common_name="vpn")["refusals"] == []
    (directory / "server.crt").unlink()
    plan = planned(directory, server_common_name="web")
    assert (plan["refusals"], plan["server_common_name"]) == ([], "web")


@pytest.mark.parametrize(
    ("issuer", "valid"), [(CA, True), (OTHER, False), (IMPOSTOR, False), (Authority("vpn CA", key=CA.key), False)]
)
def test_a_certificate_is_valid_if_name_and_key_are_its_issuers(
    directory: Path, issuer: Authority, valid: bool
) -> None:
    """The last one lacks the identifier of the key, which the role always writes."""
    fill(directory, clients__alice_crt=issuer.issue("alice", "client", until=800)[0])
    assert planned(directory)["missing"] == ([] if valid else ["alice"])


def test_the_key_of_an_authority_with_another_name_is_not_its_issuer(directory: Path) -> None:
    renamed = Authority("renamed CA", key=CA.key, identifiers=True)
    fill(directory, clients__alice_crt=renamed.issue("alice", "client", until=800)[0])
    assert planned(directory)["missing"] == ["alice"]


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"ca_crt": b""}, "pki_directory: DIR/ca.crt contains no certificate"),
        ({"ca_crt": CA.pem[:300]}, "pki_directory: DIR/ca.crt contains no certificate"),
        ({"ca_key": None}, "pki_directory: DIR has the certificate of the authority CN=vpn CA (SHA-256 "),
        ({"ca_crt": None}, "pki_directory: DIR has the key of an authority that has issued certificates"),
        ({"ca_key": private(OTHER.key)}, "pki_directory: DIR/ca.key is not the key of the certificate DIR/ca.crt"),
        ({"ca_crt": IMPOSTOR.pem}, "pki_directory: DIR/ca.key is not the key of the certificate DIR/ca.crt"),
        ({"ca_key": b"spoilt"}, "pki_directory: DIR/ca.key cannot be loaded"),
        ({"ca_key": private(CA.key, b"secret")}, "pki_ca_passphrase: empty, but the key DIR/ca.key has a passphrase"),
        ({"crl_pem": CA.revocations()[:100]}, "pki_directory: DIR/crl.pem contains no revocation list"),
        ({"crl_pem": OTHER.revocations()}, "pki_directory: DIR/crl.pem is the revocation list of CN=other CA, not of"),
        ({"clients__alice_crt": ALICE[0][:99]}, "pki_directory: DIR/clients/alice.crt contains no certificate"),
    ],
)
def test_broken_directories_are_refused(directory: Path, changes: dict[str, bytes | None], refusal: str) -> None:
    fill(directory, **changes)
    (error,) = planned(directory)["refusals"]
    assert error.replace(str(directory), "DIR").startswith(refusal)
    assert "PRIVATE" not in error


def test_an_interrupted_first_run_is_continued(directory: Path) -> None:
    for path in [*directory.glob("*.*"), *directory.glob("clients/*")]:
        if path.name != "ca.key":
            path.unlink()
    plan = planned(directory)
    assert (plan["refusals"], plan["renew_ca"]) == ([], True)
    fill(directory, crl_pem=None, server_crt=None, clients__alice_crt=None)
    plan = planned(directory)
    assert (plan["refusals"], plan["renew_ca"], plan["renew_crl"], plan["missing"]) == ([], False, True, ["alice"])


def test_the_passphrase_is_checked(directory: Path) -> None:
    (error,) = planned(directory, passphrase="secret")["refusals"]
    assert error.startswith("pki_ca_passphrase: set, but the key ")
    fill(directory, ca_key=private(CA.key, b"secret"))
    assert planned(directory, passphrase="secret")["refusals"] == []
    (error,) = planned(directory, passphrase="wrong-one")["refusals"]
    assert error == f"pki_ca_passphrase: not the passphrase of the key {directory}/ca.key"


def test_certificates_are_renewed_with_the_same_names(directory: Path) -> None:
    short = Authority("vpn CA", until=30, key=CA.key, identifiers=True)
    expired = Authority("vpn CA", since=-20, until=-2, key=CA.key, identifiers=True)
    for authority in (short, expired):
        fill(
            directory,
            ca_crt=authority.pem,
            server_crt=CA.issue("named otherwise", "server", until=9)[0],
            clients__alice_crt=CA.issue("alice", "client", until=9)[0],
            crl_pem=CA.revocations(until=9),
        )
        plan = planned(directory)
        assert [plan["renew_ca"], plan["renew_server"], plan["renew_crl"], plan["missing"]] == [True] * 3 + [["alice"]]
        assert (plan["refusals"], plan["server_common_name"]) == ([], "named otherwise")


# --- hosts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "installed",
    [
        host(ca_crt=OTHER.pem),
        host(ca_crt=IMPOSTOR.pem),
        host(ca_crt=Authority("renamed", key=CA.key).pem),
        host(ca_crt=OTHER.pem + CA.pem, tls_crypt=b"x"),
        host(ca_crt=b"spoilt", server_crt=OTHER.issue("vpn", "server")[0]),
        host(server_crt=OTHER.issue("vpn", "server")[0]),
    ],
)
def test_a_host_of_another_authority_is_left_alone(
    directory: Path, tmp_path: Path, installed: dict[str, t.Any]
) -> None:
    (ca,) = der.certificates(CA.pem)
    for where, held in ((directory, f"the authority CN=vpn CA (SHA-256 {ca.fingerprint})"), (tmp_path, "no authority")):
        (error,) = planned(where, hosts=[installed])["refusals"]
        assert error.startswith(f"pki_directory: {where} has {held}, but h1:/etc/clustered-openvpn/vpn has ")
        assert "pki_replace_authority" in error
        assert planned(where, hosts=[installed], replace_authority=True)["refusals"] == []


@pytest.mark.parametrize(
    "installed",
    [
        host(ca_crt=b"spoilt", server_crt=b"spoilt", crl_pem=b"spoilt"),
        host("ca.crt", server_crt=OTHER.issue("vpn", "server")[0]),
        host("ca.crt", crl_pem=OTHER.revocations(9)),  # of another authority: replaced
        host("ca.crt", crl_pem=CA.revocations(7)[:200]),
        host(ca_crt=Authority("vpn CA", until=9, key=CA.key).pem),  # before its renewal
        host(ca_crt=Authority("VPN  ca", key=CA.key).pem),  # the same name, for OpenSSL
        host("server.crt", tls_crypt=None),
        host(tls_crypt=None),
    ],
)
def test_damage_on_a_host_is_repaired(directory: Path, installed: dict[str, t.Any]) -> None:
    assert planned(directory, hosts=[installed])["refusals"] == []


def test_the_tls_crypt_key_of_hosts_is_not_replaced(directory: Path) -> None:
    for key, held in ((STATIC_KEY.replace(b"00", b"11"), "another"), (None, "no")):
        fill(directory, **{"tls-crypt_key": key})
        (error,) = planned(directory, hosts=[host("ca.crt")])["refusals"]
        assert error.startswith(f"pki_directory: {directory} has {held} tls-crypt.key, but clients use that of h1:")
        assert planned(directory, hosts=[host("ca.crt")], replace_authority=True)["refusals"] == []
    fill(directory, **{"tls-crypt_key": STATIC_KEY.rstrip()})  # as it is on hosts, with a line feed
    assert planned(directory, hosts=[host("ca.crt")])["refusals"] == []


def test_revocations_on_hosts_are_not_lost(directory: Path, tmp_path: Path) -> None:
    """A directory from a backup, or that of a second administrator."""
    crl = CA.revocations(7, 26, 27)
    installed = [host("ca.crt", crl_pem=crl)]
    for replace in (False, True):
        (error,) = planned(directory, hosts=installed, replace_authority=replace)["refusals"]
        assert "h1:/etc/clustered-openvpn/vpn/crl.pem revokes 2 certificates that" in error
        assert ": 0x1a, 0x1b; " in error
    assert planned(directory, hosts=installed, revoked_serials=[26, "0x1B"])["refusals"] == []
    (tmp_path / "copy.pem").write_bytes(crl)
    plan = planned(directory, hosts=installed, ca_crl=str(tmp_path / "copy.pem"))
    assert (plan["refusals"], [one["serial_number"] for one in plan["revoke"]]) == ([], [26, 27])


# --- an authority of one's own ----------------------------------------------------------------------------------------


def test_an_external_authority_needs_its_revocations(tmp_path: Path) -> None:
    given = external(tmp_path)
    (error,) = planned(tmp_path / "new", **given)["refusals"]
    assert error.startswith("pki_ca_crl: empty, but CN=vpn CA (SHA-256 ")
    assert planned(tmp_path / "new", **given, ca_crl="none")["refusals"] == []
    plan = planned(tmp_path / "new", **given, revoked_serials=["26"])
    assert (plan["refusals"], plan["revoke"][0]["serial_number"]) == ([], 26)
    used_before = fill(tmp_path / "used", ca_key=None)
    assert planned(used_before, **given)["refusals"] == []
    fill(used_before, crl_pem=None)
    assert planned(used_before, **given)["refusals"][0].startswith("pki_ca_crl: empty")


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_its_list_is_merged_once(directory: Path, tmp_path: Path, encoding: Encoding) -> None:
    given = external(tmp_path, ca_crl=str(tmp_path / "own.crl"))
    crl = x509.load_pem_x509_crl(CA.revocations(7, 26, ALICE_SERIAL))
    (tmp_path / "own.crl").write_bytes(crl.public_bytes(encoding))
    plan = planned(directory, **given)
    assert [one["serial_number"] for one in plan["revoke"]] == [26, ALICE_SERIAL]
    assert all(len(one["revocation_date"]) == len("20260101000000Z") for one in plan["revoke"])
    assert (plan["missing"], plan["compromised"]) == (["alice"], ["alice"])
    fill(directory, crl_pem=CA.revocations(7, 26, ALICE_SERIAL))
    assert planned(directory, **given)["revoke"] == []


@pytest.mark.parametrize(
    ("crl", "refusal"),
    [
        (None, "contains no revocation list"),
        (b"spoilt", "contains no revocation list"),
        (CA.pem, "contains no revocation list"),
        (CA.revocations()[:200], "contains no revocation list"),
        (OTHER.revocations(), "is a list of CN=other CA, not of the authority CN=vpn CA"),
        (CA.revocations(since=-9, until=-2), "expired on "),
    ],
)
def test_lists_that_cannot_be_the_authoritys(tmp_path: Path, crl: bytes | None, refusal: str) -> None:
    if crl:
        (tmp_path / "own.crl").write_bytes(crl)
    given = external(tmp_path, ca_crl=str(tmp_path / "own.crl"))
    (error,) = planned(tmp_path / "new", **given)["refusals"]
    assert error.startswith(f"pki_ca_crl: {tmp_path}/own.crl {refusal}")


def test_external_keys(tmp_path: Path) -> None:
    given = external(tmp_path, ca_crl="none")
    (tmp_path / "own.key").write_bytes(private(OTHER.key))
    (error,) = planned(tmp_path / "new", **given)["refusals"]
    assert error.startswith(f"pki_ca_private_key: {tmp_path}/own.key is not the key of the certificate ")
    (tmp_path / "own.key").unlink()
    (error,) = planned(tmp_path / "new", **given)["refusals"]
    assert error == f"pki_ca_private_key: {tmp_path}/own.key does not exist on the controller"


def test_another_external_authority(directory: Path, tmp_path: Path) -> None:
    given = external(tmp_path, OTHER, ca_crl="none")
    (error,) = planned(directory, **given)["refusals"]
    assert error.startswith(f"pki_ca_certificate: {tmp_path}/own.crt is CN=other CA (SHA-256 ")
    assert f", but {directory} was used with CN=vpn CA (SHA-256 " in error
    plan = planned(directory, **given, replace_authority=True, server_common_name="web")
    assert (plan["refusals"], plan["missing"], plan["server_common_name"]) == ([], ["alice"], "web")
    (tmp_path / "own.crt").write_bytes(OTHER.pem + CA.pem)  # a transition: both are trusted
    fill(directory, crl_pem=OTHER.revocations())
    assert planned(directory, **given, hosts=[host(ca_crt=CA.pem)])["refusals"] == []


# --- names and serial numbers -----------------------------------------------------------------------------------------


def test_names_are_text(directory: Path) -> None:
    cert, key = CA.issue("1001", "client", until=800)
    fill(directory, clients__1001_crt=cert, clients__1001_key=key)
    assert planned(directory, clients=[{"name": 1001}])["missing"] == []
    plan = planned(directory, clients=[{"name": 1001}, {"name": "alice"}], revoked=[1001])
    assert (plan["refusals"], plan["missing"], len(plan["revoke"])) == ([], [], 1)
    (error,) = planned(directory, clients=[{"name": "1001"}, {"name": 1001}])["refusals"]
    assert error == "pki_clients: '1001': use each name once"


@pytest.mark.parametrize("name", [True, False, 1.1, None])
def test_values_that_yaml_has_changed_are_no_names(directory: Path, name: object) -> None:
    error = planned(directory, clients=[{"name": name}])["refusals"][0]
    assert error == f"pki_clients: YAML reads a name as {name!r}; put it between quotation marks"
    error = planned(directory, revoked=[name])["refusals"][0]
    assert error == f"pki_revoked: YAML reads a name as {name!r}; put it between quotation marks"


@pytest.mark.parametrize("name", ["", "a b", "../x", "-a", "a/b", "a" * 65, "ä"])
def test_names_of_clients_are_checked(directory: Path, name: str) -> None:
    (error,) = planned(directory, clients=[{"name": name}])["refusals"]
    assert error.startswith(f"pki_clients: {name!r}: a name has 1 to 64 of ")


def test_a_replaced_certificate_is_revoked_as_well(directory: Path) -> None:
    before = CA.issue("alice", "client")[0]
    (directory / "clients/alice.crt.123.2026-01-01@00:00:00~").write_bytes(before)
    assert len(planned(directory, revoked=["alice"])["revoke"]) == 2
    (error,) = planned(directory, revoked=["alice", "alise"])["refusals"]
    assert error.startswith("pki_revoked: no certificate of alise was ever issued in ")


@pytest.mark.parametrize(
    ("value", "serial"),
    [(26, 26), ("26", 26), ("0x1A", 26), ("0X1a", 26), ("1A:2B", 0x1A2B), ("0x" + "f" * 40, (1 << 160) - 1)],
)
def test_serial_numbers(value: object, serial: int) -> None:
    assert issuance.parse_serials([value]) == ([serial], [])


@pytest.mark.parametrize(
    "value", ["1A", "01", "", "0x", "-1", 0, -3, 1.5, True, None, "0x1" + "0" * 40, "1:2", "x", "²"]
)
def test_ambiguous_serial_numbers_are_refused(directory: Path, value: object) -> None:
    (error,) = planned(directory, revoked_serials=[value])["refusals"]
    assert error.startswith(f"pki_revoked_serials: {value!r} is not a serial number; write it decimal")


def test_wrong_settings_name_the_directory(directory: Path) -> None:
    (directory / "clients").chmod(0o700)
    with pytest.raises(AnsibleFilterError, match=f"pki_directory: {directory}: .*unknown"):
        planned(directory, unknown=1)


# --- clients ----------------------------------------------------------------------------------------------------------


def test_certificates_that_servers_would_refuse(directory: Path) -> None:
    below = Authority("below", above=CA, identifiers=True)
    fill(
        directory,
        clients__stale_crt=OTHER.issue("stale", "client")[0],
        clients__impostor_crt=IMPOSTOR.issue("impostor", "client")[0],
        clients__late_crt=CA.issue("late", "client", since=-9, until=-2)[0],
        clients__below_crt=below.issue("below", "client")[0] + below.pem,
    )
    names = ["alice", "below", "none", "stale", "impostor", "late"]
    assert [error.partition(" on ")[0] for error in pki_unusable(names, str(directory))] == [
        "stale: not issued by CN=vpn CA but by CN=other CA",
        "impostor: not issued by CN=vpn CA but by CN=vpn CA",
        "late: expired",
    ]
    assert pki_unusable(names, str(directory / "none")) == []
