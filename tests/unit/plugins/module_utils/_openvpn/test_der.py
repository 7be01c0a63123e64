# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names are compared as OpenSSL compares them, which therefore takes part in these tests."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
from pathlib import Path

import pytest
from certificates import NOW, Authority
from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn import certificates, der

UTF8, PRINTABLE, BMP = _ASN1Type.UTF8String, _ASN1Type.PrintableString, _ASN1Type.BMPString
IA5, T61, NUMERIC = _ASN1Type.IA5String, _ASN1Type.T61String, _ASN1Type.NumericString
Attribute = tuple[x509.ObjectIdentifier, str, _ASN1Type]


def name(*attributes: Attribute) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value, kind, _validate=False) for oid, value, kind in attributes])


def common(value: str, kind: _ASN1Type = UTF8) -> x509.Name:
    return name((NameOID.COMMON_NAME, value, kind))


def both(one: Attribute, other: Attribute) -> x509.Name:
    """A relative distinguished name of two attributes."""
    attributes = [x509.NameAttribute(oid, value, kind, _validate=False) for oid, value, kind in (one, other)]
    return x509.Name([x509.RelativeDistinguishedName(attributes)])


CN, OU = (NameOID.COMMON_NAME, "vpn", UTF8), (NameOID.ORGANIZATIONAL_UNIT_NAME, "x", UTF8)


def accepted_by_openssl(authority: Authority, revocations: bytes) -> bool:
    """Whether OpenSSL finds the revocation list of this certificate's issuer: a handshake that requires one."""
    cert, key = authority.issue("server", "server")
    data = {"cert": cert, "key": key}
    client = certificates._context(ssl.PROTOCOL_TLS_CLIENT, data, b"")
    server = certificates._context(ssl.PROTOCOL_TLS_SERVER, data, b"")
    client.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    with certificates._file(revocations) as path:
        client.load_verify_locations(path)
    error = certificates._verify(client, server, der.pem_blocks(authority.pem, der.CERTIFICATE), role="server")
    assert error is None or "CRL" in error.verify_message
    return error is None


@pytest.mark.parametrize(
    ("authority", "crl", "same"),
    [
        (common("vpn CA", PRINTABLE), common("vpn CA"), True),
        (common("vpn CA", BMP), common("vpn CA"), True),
        (common("vpn CA", IA5), common("vpn CA", PRINTABLE), True),
        (common("vpn CA"), common("VPN ca"), True),
        (common("vpn CA"), common("  vpn \t  CA "), True),
        (common("vpn CA"), common("vpnCA"), False),
        (common("vpn CA"), common("vpn CB"), False),
        (common("vpn"), common("vp"), False),
        (common("Ä"), common("ä"), False),  # only ASCII letters
        (common("vpn", T61), common("vpn", BMP), True),
        (common("Ä", T61), common("Ã\x84"), True),  # the library writes UTF-8, OpenSSL reads Latin-1
        (common("1", NUMERIC), common("1"), False),
        (name(CN, OU), name(OU, CN), False),
        (name(CN, OU), both(CN, OU), False),
        (both(CN, OU), both(OU, CN), True),
        (name(CN), name(CN, OU), False),
        (name(CN), name((NameOID.ORGANIZATION_NAME, "vpn", UTF8)), False),
    ],
)
def test_names_are_compared_as_openssl_compares_them(authority: x509.Name, crl: x509.Name, same: bool) -> None:
    assert (der.canonical_name(content(authority)) == der.canonical_name(content(crl))) is same
    made = Authority(authority)
    revocations = made.revocations(issuer=crl)
    assert accepted_by_openssl(made, revocations) is same
    files = {"ca": certificates.Pem("ca.crt", made.pem), "crl-verify": certificates.Pem("crl.pem", revocations)}
    errors = certificates.check(files, "server", NOW).errors
    assert [error.partition(",")[0] for error in errors] == (
        [] if same else ["crl-verify: crl.pem was not issued by the CA in 'ca'"]
    )


def content(of: x509.Name) -> bytes:
    (element,) = der._elements(of.public_bytes())
    return element[1]


def test_text_that_cannot_be_decoded_is_compared_by_its_bytes() -> None:
    def one(tag: int, value: bytes) -> bytes:
        attribute = b"\x06\x03\x55\x04\x03" + bytes([tag, len(value)]) + value
        return bytes([0x31, len(attribute) + 2, 0x30, len(attribute)]) + attribute

    assert der.canonical_name(one(0x1E, b"\0a\0")) == der.canonical_name(one(0x1E, b"\0a\0"))
    assert der.canonical_name(one(0x0C, b"\xff")) != der.canonical_name(one(0x0C, b"\xfe"))
    for cut in range(12):
        with contextlib.suppress(ValueError, IndexError):
            der.canonical_name(one(0x0C, b"vpn")[:cut])


def test_what_openssl_made(tmp_path: Path) -> None:
    """An authority as easy-rsa 2 made it, and a revocation list with its name in UTF-8."""

    def openssl(command: str) -> str:
        done = subprocess.run(["sh", "-ec", command], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    subject = "/C=DE/O=Example  Corp/CN=Example-CA/emailAddress=ca@example.com"
    for mask in ("nombstr", "utf8only"):
        (tmp_path / f"{mask}.cnf").write_text(
            f"[req]\ndistinguished_name=dn\nstring_mask={mask}\nx509_extensions=v3\n[dn]\n"
            "[v3]\nbasicConstraints=CA:TRUE\nsubjectKeyIdentifier=hash\n"
            "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=9\n"
        )
    openssl(
        f"openssl req -x509 -config nombstr.cnf -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj '{subject}'"
        f"; openssl req -x509 -config utf8only.cnf -key ca.key -out utf8.crt -subj '{subject}'"
        "; printf 'R\\t301231235959Z\\t200102030405Z\\t0A1B\\tunknown\\t/CN=lost\\n' >index.txt"
        "; openssl ca -config utf8only.cnf -gencrl -cert utf8.crt -keyfile ca.key -out crl.pem"
    )
    (ca,) = der.certificates((tmp_path / "ca.crt").read_bytes())
    (crl,) = der.revocation_lists((tmp_path / "crl.pem").read_bytes())
    assert b"\x13\x0aExample-CA" in der.pem_blocks((tmp_path / "ca.crt").read_bytes(), der.CERTIFICATE)[0]
    assert b"\x0c\x0aExample-CA" in der.pem_blocks((tmp_path / "crl.pem").read_bytes(), der.REVOCATION_LIST)[0]
    assert crl.issuer == ca.subject
    assert {f"{serial:04X}": f"{when:%Y-%m-%d}" for serial, when in crl.revoked.items()} == {"0A1B": "2020-01-02"}
    assert ca.subject_text == "C=DE,O=Example  Corp,CN=Example-CA,emailAddress=ca@example.com"
    assert (ca.common_name, ca.since < ca.until if ca.until else None) == ("Example-CA", True)
    shown = openssl("openssl x509 -in ca.crt -noout -ext subjectKeyIdentifier -fingerprint -sha256")
    assert ca.key_id.hex(":").upper() in shown
    assert ca.fingerprint.upper() in shown.replace(":", "")
    assert f"serial={ca.serial:040X}" == openssl("openssl x509 -in ca.crt -noout -serial").zfill(40)
    openssl("openssl crl -in crl.pem -outform der -out crl.der")  # as AD CS publishes it
    assert der.revocation_lists((tmp_path / "crl.der").read_bytes()) == [crl]


@pytest.mark.parametrize("extensions", [True, False])
def test_the_issuer_is_the_name_and_the_key(extensions: bool) -> None:
    authority, other = Authority(identifiers=extensions), Authority("other", identifiers=extensions)
    impostor = Authority(identifiers=extensions)  # the same name, another key
    (ca,), (elsewhere,), (same_name,) = (der.certificates(one.pem) for one in (authority, other, impostor))
    (mine,) = der.certificates(authority.issue("x")[0])
    assert der.issued_by(mine, ca)
    assert not der.issued_by(mine, elsewhere)
    assert der.issued_by(mine, same_name) is not extensions  # a certificate may lack the identifier of its issuer's key
    assert der.same_authority(ca, ca)
    assert not der.same_authority(ca, same_name)
    assert not der.same_authority(ca, elsewhere)
    renamed = Authority("renamed", key=authority.key)
    assert not der.same_authority(ca, der.certificates(renamed.pem)[0])
    renewed = Authority(since=-1, until=20, key=authority.key)
    assert der.same_authority(ca, der.certificates(renewed.pem)[0])
