# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of certificates, keys and revocation lists (CRLs) with which OpenVPN would start but refuse all clients.

OpenVPN starts with an expired certificate, with one that its CA did not sign, and with an expired CRL. Dates are read
from the DER encoding; signatures are verified by a TLS handshake in memory. Only Python's C(ssl) is needed.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime
import os
import re
import ssl
import typing as t
from dataclasses import dataclass, field

CERTIFICATE = "(?:X509 )?CERTIFICATE"
REVOCATION_LIST = "X509 CRL"
# From OpenSSL's x509_vfy.h. The second: the extended key usage is that of the other role (server, client).
V_ERR_CERT_HAS_EXPIRED = 10
V_ERR_INVALID_PURPOSE = 26
MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


@dataclass(frozen=True)
class Pem:
    """A PEM file or inline block; C(label) is its path or name in messages. C(data) None: the file does not exist."""

    label: str
    data: bytes | None


@dataclass
class Findings:
    """C(errors): all clients would be refused. C(warnings): some might be."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Signed:
    """A certificate or a revocation list. C(until) None: it does not expire."""

    issuer: bytes
    subject: bytes
    since: datetime.datetime
    until: datetime.datetime | None


# --- encoding ---------------------------------------------------------------------------------------------------------


def pem_blocks(data: bytes, kind: str) -> list[bytes]:
    """The DER encodings of all blocks of one kind. Pure."""
    pattern = f"-----BEGIN {kind}-----\\s(.*?)-----END {kind}-----".encode()
    found = []
    for body in re.findall(pattern, data, re.DOTALL):
        with contextlib.suppress(binascii.Error):
            found.append(base64.b64decode(b"".join(body.split()), validate=True))
    return found


def _elements(der: bytes) -> list[tuple[int, bytes]]:
    """The tags and contents of the elements in a DER encoding. Raises ValueError, IndexError."""
    found = []
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            octets = length & 0x7F
            length, at = int.from_bytes(der[at : at + octets], "big"), at + octets
        if at + length > len(der):
            raise ValueError("an element is longer than the encoding that contains it")
        found.append((tag, der[at : at + length]))
        at += length
    return found


def _time(tag: int, content: bytes) -> datetime.datetime:
    text = content.decode("ascii")
    if tag == 0x17:  # UTCTime has two digits for the year: 1950 to 2049
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.timezone.utc)


def read_certificate(der: bytes) -> Signed:
    """Parse a DER certificate. Raises ValueError. Pure."""
    # RFC 5280, 4.1: version [0], serial number, algorithm, issuer, validity, subject
    try:
        parts = _elements(_elements(_elements(der)[0][1])[0][1])
        parts = parts[1:] if parts[0][0] == 0xA0 else parts
        since, until = _elements(parts[3][1])
        return Signed(parts[2][1], parts[4][1], _time(*since), _time(*until))
    except IndexError as exc:
        raise ValueError("not a certificate") from exc


def read_revocation_list(der: bytes) -> Signed:
    """Parse a DER revocation list. Raises ValueError. Pure."""
    # RFC 5280, 5.1: version, algorithm, issuer, this update, next update (optional)
    try:
        parts = _elements(_elements(_elements(der)[0][1])[0][1])
        parts = parts[1:] if parts[0][0] == 0x02 else parts
        until = _time(*parts[3]) if len(parts) > 3 and parts[3][0] in (0x17, 0x18) else None
        return Signed(parts[1][1], b"", _time(*parts[2]), until)
    except IndexError as exc:
        raise ValueError("not a revocation list") from exc


def _parsed(data: bytes, kind: str, read: t.Callable[[bytes], Signed]) -> list[Signed]:
    """The blocks of one kind that can be parsed."""
    found = []
    for der in pem_blocks(data, kind):
        with contextlib.suppress(ValueError):
            found.append(read(der))
    return found


# --- checks -----------------------------------------------------------------------------------------------------------


def check(files: t.Mapping[str, Pem], role: str, now: datetime.datetime) -> Findings:
    """Check the files of the directives ca, cert, key, crl-verify, extra-certs and askpass, as far as given.

    C(files): by the name of the directive. C(role): server or client, the end that uses the certificate.
    """
    findings = Findings()
    errors = findings.errors
    for name in ("ca", "cert", "key", "crl-verify"):
        if name in files and files[name].data is None:
            errors.append(f"{name}: {files[name].label} does not exist; create it or use another file")
    data = {name: pem.data for name, pem in files.items() if pem.data is not None}
    authorities = _parsed(data.get("ca", b""), CERTIFICATE, read_certificate)
    if "ca" in data and not authorities:
        errors.append(f"ca: {files['ca'].label} contains no certificate in PEM format")
    if "crl-verify" in data:
        errors += _check_revocation_lists(files["crl-verify"].label, data["crl-verify"], authorities, now)
    if "cert" not in data:
        return findings
    label = files["cert"].label
    own = _parsed(data["cert"], CERTIFICATE, read_certificate)
    if not own:
        errors.append(f"cert: {label} contains no certificate in PEM format")
        return findings
    valid_now = True
    if own[0].until and own[0].until < now:
        valid_now = False
        errors.append(f"cert: {label} expired on {_day(own[0].until)}, so no peer accepts it; renew it")
    elif own[0].since > now:
        valid_now = False
        errors.append(f"cert: {label} is not valid before {_day(own[0].since)}; check the clock of this host")
    if "key" in data and b"PRIVATE KEY-----" not in data["key"]:
        errors.append(f"key: {files['key'].label} contains no private key in PEM format")
    elif "key" in data:
        _check_chain(files, data, role, bool(authorities) and valid_now, findings)
    return findings


def _check_revocation_lists(
    label: str, data: bytes, authorities: t.Sequence[Signed], now: datetime.datetime
) -> list[str]:
    lists = _parsed(data, REVOCATION_LIST, read_revocation_list)
    if not lists:
        return [f"crl-verify: {label} contains no revocation list in PEM format"]
    ours = [crl for crl in lists if crl.issuer in {a.subject for a in authorities}]
    if authorities and not ours:
        return [
            f"crl-verify: {label} was not issued by the CA in 'ca', so it revokes no certificate; "
            "use a revocation list of that CA"
        ]
    errors = []
    for issuer in {crl.issuer for crl in ours}:
        newest = max((crl for crl in ours if crl.issuer == issuer), key=lambda crl: crl.since)
        if newest.until and newest.until < now:
            errors.append(f"crl-verify: {label} expired on {_day(newest.until)}: all clients are refused; renew it")
        elif newest.since > now:
            errors.append(
                f"crl-verify: {label} is not valid before {_day(newest.since)}: all clients are refused; "
                "check the clock of this host"
            )
    return errors


def _check_chain(
    files: t.Mapping[str, Pem], data: t.Mapping[str, bytes], role: str, verify: bool, findings: Findings
) -> None:
    """Check that the key belongs to the certificate and, if C(verify), that the CA signed the certificate."""
    cert, key = files["cert"].label, files["key"].label
    password = (data.get("askpass") or b"").split(b"\n")[0]
    try:
        client = _context(ssl.PROTOCOL_TLS_CLIENT, data, password)
        server = _context(ssl.PROTOCOL_TLS_SERVER, data, password)
    except ssl.SSLError as exc:
        if exc.reason in MISMATCHES:
            findings.errors.append(
                f"key: {key} does not belong to the certificate {cert}; use the key that it was issued for"
            )
        return  # OpenVPN reports other problems itself: a passphrase, an unsupported type of key
    except (OSError, ValueError):
        return
    if not verify:  # the peer verifies a fingerprint, or there is an error already
        return
    trusted = pem_blocks(data["ca"], CERTIFICATE) + pem_blocks(data.get("extra-certs", b""), CERTIFICATE)
    trusted += pem_blocks(data["cert"], CERTIFICATE)[1:]
    error = _verify(client, server, trusted, role=role)
    if error and error.verify_code == V_ERR_INVALID_PURPOSE:
        other = "client" if role == "server" else "server"
        error = _verify(client, server, trusted, role=other)
        if not error:
            findings.warnings.append(
                f"cert: {cert} is a {other} certificate: peers with 'remote-cert-tls {role}' refuse it; "
                f"issue a {role} certificate"
            )
    if error and error.verify_code == V_ERR_CERT_HAS_EXPIRED:
        findings.errors.append(f"ca: {files['ca'].label}, or an intermediate CA of {cert}, has expired; renew it")
    elif error:
        findings.errors.append(
            f"cert: {cert} is not signed by the CA in {files['ca'].label} ({error.verify_message}); "
            "use the CA that signed it, or add an intermediate CA to 'extra-certs'"
        )


def _context(kind: int, data: t.Mapping[str, bytes], password: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(kind)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # OpenVPN decides how strong a key must be
    with _file(data["cert"]) as cert, _file(data["key"]) as key:
        context.load_cert_chain(cert, key, lambda: password)  # never prompts on a terminal
    return context


@contextlib.contextmanager
def _file(data: bytes) -> t.Iterator[str]:
    """The path of a file in memory with this content."""
    descriptor = os.memfd_create("clustered-openvpn")
    try:
        os.write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _verify(
    client: ssl.SSLContext, server: ssl.SSLContext, trusted: t.Sequence[bytes], *, role: str
) -> ssl.SSLCertVerificationError | None:
    """A handshake in memory in which one end verifies the certificate of the C(role) end; its error, if any."""
    client.verify_mode = server.verify_mode = ssl.CERT_NONE
    verifier = client if role == "server" else server
    verifier.verify_mode = ssl.CERT_REQUIRED
    verifier.load_verify_locations(cadata=b"".join(trusted))
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)]
    try:
        for _round in range(10):
            done = 0
            for end in ends:
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
                    done += 1
            if done == len(ends):
                break
    except ssl.SSLCertVerificationError as exc:
        return exc
    except (ssl.SSLError, OSError):  # for example, no cipher for this type of key
        pass
    return None


def _day(when: datetime.datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"
