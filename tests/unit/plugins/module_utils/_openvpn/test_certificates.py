# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import typing as t

import pytest
from certificates import NOW, Authority, private
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.certificates import (
    CERTIFICATE,
    REVOCATION_LIST,
    Findings,
    Pem,
    check,
    pem_blocks,
    read_certificate,
    read_revocation_list,
)

CA, OTHER = Authority(), Authority("other-ca")
BELOW = Authority("below", above=CA)
IN_A_CHAIN = BELOW.issue("in a chain")
CERT, KEY = CA.issue("server", "server")
STRANGE = Authority("strange")  # a CA of the same name but with another key
IMPOSTOR = Authority()


def checked(role: str = "server", **data: bytes | None) -> Findings:
    """The findings about files named after their directives; C(crl_verify) is crl-verify."""
    files = {key.replace("_", "-"): value for key, value in data.items()}
    return check({key: Pem(f"/pki/{key}", value) for key, value in files.items()}, role, NOW)


def good(**changes: bytes | None) -> dict[str, bytes | None]:
    return {"ca": CA.pem, "cert": CERT, "key": KEY, "crl_verify": CA.revocations(), **changes}


def pair(cert_and_key: tuple[bytes, bytes], **more: bytes | None) -> dict[str, bytes | None]:
    return good(cert=cert_and_key[0], key=cert_and_key[1], **more)


RSA = rsa.generate_private_key(65537, 2048)
LOCKED = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"ca": CA.pem},
        good(),
        pair(CA.issue("no usage at all")),
        pair(CA.issue("rsa", key=RSA)),
        pair(CA.issue("ed25519", key=t.cast(t.Any, ed25519.Ed25519PrivateKey.generate()))),
        good(ca=b"Certificate:\n  a text before it\n" + OTHER.pem + CA.pem),
        good(crl_verify=OTHER.revocations() + CA.revocations()),
        good(crl_verify=CA.revocations(since=-9, until=-8) + CA.revocations()),
        good(cert=CERT.replace(b"\n", b"\r\n")),
        # an intermediate CA: in the file of the certificate, in extra-certs, in ca
        pair((IN_A_CHAIN[0] + BELOW.pem, IN_A_CHAIN[1])),
        pair(BELOW.issue("in a chain"), extra_certs=BELOW.pem),
        pair(BELOW.issue("in a chain"), ca=CA.pem + BELOW.pem),
        # without a CA, peers verify fingerprints; without a key file, a token may contain the key
        {"cert": OTHER.issue("alone")[0]},
        {"cert": CERT, "key": KEY},
        # with a passphrase, and without: OpenVPN reports the latter itself
        pair((CA.issue("locked", key=LOCKED)[0], private(LOCKED, b"secret")), askpass=b"secret\n"),
        pair((CA.issue("locked", key=LOCKED)[0], private(LOCKED, b"secret"))),
        pair((CA.issue("locked", key=LOCKED)[0], private(LOCKED, b"secret")), askpass=b"wrong\n"),
        good(ca=Authority("old", since=-9, until=-8).pem + CA.pem),
    ],
)
def test_good(files: dict[str, bytes | None]) -> None:
    assert checked(**files) == Findings()


def test_a_client() -> None:
    assert checked("client", **pair(CA.issue("c", "client"))) == Findings()


@pytest.mark.parametrize(
    ("files", "refusal"),
    [
        (good(ca=None), "ca: /pki/ca does not exist"),
        (good(cert=None), "cert: /pki/cert does not exist"),
        (good(key=None), "key: /pki/key does not exist"),
        (good(crl_verify=None), "crl-verify: /pki/crl-verify does not exist"),
        (good(ca=b""), "ca: /pki/ca contains no certificate"),
        (good(ca=KEY), "ca: /pki/ca contains no certificate"),
        (good(cert=b"\0\xff"), "cert: /pki/cert contains no certificate"),
        (good(cert=CERT[:200] + CERT[-60:]), "cert: /pki/cert contains no certificate"),
        (good(key=CERT), "key: /pki/key contains no private key"),
        (good(crl_verify=CA.pem), "crl-verify: /pki/crl-verify contains no revocation list"),
        (pair(CA.issue("old", since=-9, until=-8)), "cert: /pki/cert expired on "),
        (pair(CA.issue("new", since=2)), "cert: /pki/cert is not valid before "),
        (good(key=OTHER.issue("x")[1]), "key: /pki/key does not belong to the certificate /pki/cert"),
        (good(key=private(RSA)), "key: /pki/key does not belong to the certificate /pki/cert"),
        (pair(OTHER.issue("x")), "cert: /pki/cert is not signed by the CA in /pki/ca"),
        (pair(IMPOSTOR.issue("x")), "cert: /pki/cert is not signed by the CA in /pki/ca"),
        (pair(BELOW.issue("x")), "cert: /pki/cert is not signed by the CA in /pki/ca"),
        (pair(CA.issue("x"), crl_verify=OTHER.revocations()), "crl-verify: /pki/crl-verify was not issued by the CA"),
        (good(crl_verify=CA.revocations(since=-9, until=-8)), "crl-verify: /pki/crl-verify expired on "),
        (good(crl_verify=CA.revocations(since=2)), "crl-verify: /pki/crl-verify is not valid before "),
    ],
)
def test_refused_with_the_file_and_the_remedy(files: dict[str, bytes | None], refusal: str) -> None:
    findings = checked(**files)
    (error,) = findings.errors
    assert error.startswith(refusal)
    assert findings.warnings == []
    assert "PRIVATE" not in error


def test_a_ca_that_has_expired() -> None:
    old = Authority(since=-9, until=-1)
    cert, key = old.issue("x")
    (error,) = checked(ca=old.pem, cert=cert, key=key).errors
    assert error.startswith("ca: /pki/ca, or an intermediate CA of /pki/cert, has expired")


def test_a_certificate_for_the_other_side_is_remarked() -> None:
    findings = checked(**pair(CA.issue("x", "client")))
    assert findings.errors == []
    assert findings.warnings[0].startswith("cert: /pki/cert is a client certificate")
    assert checked(**pair(OTHER.issue("x", "client"))).errors[0].startswith("cert: /pki/cert is not signed")


def test_dates() -> None:
    (der,) = pem_blocks(CA.issue("x", since=-3, until=40000)[0], CERTIFICATE)  # beyond 2050: GeneralizedTime
    signed = read_certificate(der)
    assert signed.since == (NOW - datetime.timedelta(days=3)).replace(microsecond=0)
    assert signed.until == (NOW + datetime.timedelta(days=40000)).replace(microsecond=0)
    (der,) = pem_blocks(CA.revocations(until=9), REVOCATION_LIST)
    assert read_revocation_list(der).until == (NOW + datetime.timedelta(days=9)).replace(microsecond=0)


def test_damaged_encodings_are_refused_and_never_a_surprise() -> None:
    (cert,), (crl,) = pem_blocks(CERT, CERTIFICATE), pem_blocks(CA.revocations(), REVOCATION_LIST)
    for read, der in ((read_certificate, cert), (read_revocation_list, crl)):
        for cut in range(len(der)):
            for damaged in (der[:cut], der[:cut] + bytes([der[cut] ^ 0xFF]) + der[cut + 1 :]):
                try:
                    read(damaged)
                except ValueError:
                    continue
