# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates and revocation lists to test with, also such as no tool makes willingly: expired ones, for example."""

from __future__ import annotations

import datetime
import typing as t

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = t.Union[ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey]
NOW = datetime.datetime.now(datetime.timezone.utc)
USAGES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


def days(number: int) -> datetime.datetime:
    """That many days from now."""
    return NOW + datetime.timedelta(days=number)


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


class Authority:
    """A CA, a root or (C(above)) one below another."""

    def __init__(
        self, common: str = "test-ca", *, since: int = -10, until: int = 10, above: Authority | None = None
    ) -> None:
        self.name, self.key = name(common), ec.generate_private_key(ec.SECP256R1())
        made = _builder(self.name, self.key, since, until)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        signer = above or self
        self.pem = made.issuer_name(signer.name).sign(signer.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def issue(
        self, common: str, usage: str | None = None, *, key: Key | None = None, since: int = -1, until: int = 5
    ) -> tuple[bytes, bytes]:
        """A certificate and its key."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        made = _builder(name(common), key, since, until).issuer_name(self.name)
        if usage:
            made = made.add_extension(x509.ExtendedKeyUsage([USAGES[usage]]), critical=False)
        return made.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM), private(key)

    def revocations(self, *, since: int = -3, until: int = 3) -> bytes:
        """A list that revokes somebody."""
        revoked = x509.RevokedCertificateBuilder().serial_number(7).revocation_date(days(-4)).build()
        made = x509.CertificateRevocationListBuilder().issuer_name(self.name).add_revoked_certificate(revoked)
        made = made.last_update(days(since)).next_update(days(until))
        return made.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def private(key: Key, password: bytes = b"") -> bytes:
    how = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)


def _builder(subject: x509.Name, key: Key, since: int, until: int) -> x509.CertificateBuilder:
    made = x509.CertificateBuilder().subject_name(subject).public_key(key.public_key())
    return made.serial_number(x509.random_serial_number()).not_valid_before(days(since)).not_valid_after(days(until))
