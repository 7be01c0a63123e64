# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of certificates, keys and revocation lists (CRLs) with which OpenVPN would start but refuse all clients.

OpenVPN starts with an expired certificate, with one that its CA did not sign, and with an expired CRL. Signatures are
verified by a TLS handshake in memory. Only Python's C(ssl) is needed.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import ssl
import typing as t
from dataclasses import dataclass, field

from .der import CERTIFICATE, Signed, certificates, pem_blocks, revocation_lists

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
    authorities = certificates(data.get("ca", b""))
    if "ca" in data and not authorities:
        errors.append(f"ca: {files['ca'].label} contains no certificate in PEM format")
    if "crl-verify" in data:
        errors += _check_revocation_lists(files["crl-verify"].label, data["crl-verify"], authorities, now)
    if "cert" not in data:
        return findings
    label = files["cert"].label
    own = certificates(data["cert"])
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
    lists = revocation_lists(data)
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
