# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates, keys and revocation lists that OpenVPN would take, and then serve nobody.

It starts with an expired certificate, with one that its CA never signed, and with an expired revocation list, and
refuses every client afterwards. So they are looked at before a process is touched. Dates are read from the DER
encoding; signatures are checked by a handshake in memory, with nothing but Python's own C(ssl): no program is needed.
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
# Of OpenSSL's x509_vfy.h. The second: a server's certificate that says it is a client's, or the other way round.
V_ERR_CERT_HAS_EXPIRED = 10
V_ERR_INVALID_PURPOSE = 26
MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


@dataclass(frozen=True)
class Pem:
    """A file, or a part of the configuration: C(label) says which. C(data) None: there is no such file."""

    label: str
    data: bytes | None


@dataclass
class Verdict:
    """C(refusals): it would serve nobody. C(remarks): it might."""

    refusals: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Signed:
    """A certificate or a revocation list. C(until) None: for ever."""

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
    """What a constructed element holds: tags and contents."""
    found = []
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            octets = length & 0x7F
            length, at = int.from_bytes(der[at : at + octets], "big"), at + octets
        if at + length > len(der):
            raise ValueError("an element is longer than what holds it")
        found.append((tag, der[at : at + length]))
        at += length
    return found


def _time(tag: int, content: bytes) -> datetime.datetime:
    text = content.decode("ascii")
    if tag == 0x17:  # UTCTime has two digits for the year: 1950 to 2049
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.timezone.utc)


def read_certificate(der: bytes) -> Signed:
    """RFC 5280, 4.1: version [0], serial number, algorithm, issuer, validity, subject. Raises ValueError. Pure."""
    try:
        parts = _elements(_elements(_elements(der)[0][1])[0][1])
        parts = parts[1:] if parts[0][0] == 0xA0 else parts
        since, until = _elements(parts[3][1])
        return Signed(parts[2][1], parts[4][1], _time(*since), _time(*until))
    except IndexError as exc:
        raise ValueError("no certificate") from exc


def read_revocation_list(der: bytes) -> Signed:
    """RFC 5280, 5.1: version, algorithm, issuer, this update, next update (or none). Raises ValueError. Pure."""
    try:
        parts = _elements(_elements(_elements(der)[0][1])[0][1])
        parts = parts[1:] if parts[0][0] == 0x02 else parts
        until = _time(*parts[3]) if len(parts) > 3 and parts[3][0] in (0x17, 0x18) else None
        return Signed(parts[1][1], b"", _time(*parts[2]), until)
    except IndexError as exc:
        raise ValueError("no revocation list") from exc


def _readable(data: bytes, kind: str, read: t.Callable[[bytes], Signed]) -> list[Signed]:
    found = []
    for der in pem_blocks(data, kind):
        with contextlib.suppress(ValueError):
            found.append(read(der))
    return found


# --- judgement --------------------------------------------------------------------------------------------------------


def judge(files: t.Mapping[str, Pem], role: str, now: datetime.datetime) -> Verdict:
    """Look at what the directives ca, cert, key, crl-verify, extra-certs and askpass name, as far as they are there."""
    verdict = Verdict()
    say = verdict.refusals.append
    for name in ("ca", "cert", "key", "crl-verify"):
        if name in files and files[name].data is None:
            say(f"{name}: {files[name].label} does not exist; make it, or name another one")
    there = {name: pem.data for name, pem in files.items() if pem.data is not None}
    authorities = _readable(there.get("ca", b""), CERTIFICATE, read_certificate)
    if "ca" in there and not authorities:
        say(f"ca: {files['ca'].label} holds no certificate in PEM form")
    if "crl-verify" in there:
        verdict.refusals += _judge_list(files["crl-verify"].label, there["crl-verify"], authorities, now)
    if "cert" not in there:
        return verdict
    label = files["cert"].label
    own = _readable(there["cert"], CERTIFICATE, read_certificate)
    if not own:
        say(f"cert: {label} holds no certificate in PEM form")
        return verdict
    dated = True
    if own[0].until and own[0].until < now:
        dated = False
        say(f"cert: {label} expired on {_day(own[0].until)}: no peer accepts it; renew it")
    elif own[0].since > now:
        dated = False
        say(f"cert: {label} is not valid before {_day(own[0].since)}; check the clock of this host")
    if "key" in there and b"PRIVATE KEY-----" not in there["key"]:
        say(f"key: {files['key'].label} holds no private key in PEM form")
    elif "key" in there:
        _judge_chain(files, there, role, bool(authorities) and dated, verdict)
    return verdict


def _judge_list(label: str, data: bytes, authorities: t.Sequence[Signed], now: datetime.datetime) -> list[str]:
    lists = _readable(data, REVOCATION_LIST, read_revocation_list)
    if not lists:
        return [f"crl-verify: {label} holds no revocation list in PEM form"]
    ours = [one for one in lists if one.issuer in {a.subject for a in authorities}]
    if authorities and not ours:
        return [
            f"crl-verify: {label} is not a list of the CA in 'ca', so it would revoke nobody; issue one with that CA"
        ]
    said = []
    for issuer in {one.issuer for one in ours}:
        newest = max((one for one in ours if one.issuer == issuer), key=lambda one: one.since)
        if newest.until and newest.until < now:
            said.append(
                f"crl-verify: {label} expired on {_day(newest.until)}: every client is refused; issue a new one"
            )
        elif newest.since > now:
            said.append(
                f"crl-verify: {label} is not valid before {_day(newest.since)}: every client is refused; "
                "check the clock of this host"
            )
    return said


def _judge_chain(
    files: t.Mapping[str, Pem], there: t.Mapping[str, bytes], role: str, signed: bool, verdict: Verdict
) -> None:
    cert, key = files["cert"].label, files["key"].label
    password = (there.get("askpass") or b"").split(b"\n")[0]
    try:
        client = _context(ssl.PROTOCOL_TLS_CLIENT, there, password)
        server = _context(ssl.PROTOCOL_TLS_SERVER, there, password)
    except ssl.SSLError as exc:
        if exc.reason in MISMATCHES:
            verdict.refusals.append(
                f"key: {key} does not belong to the certificate {cert}; name the one it was made with"
            )
        return  # what else it may be (a passphrase, a kind of key), OpenVPN says itself
    except (OSError, ValueError):
        return
    if not signed:  # trusted by its fingerprint, or refused already
        return
    trusted = pem_blocks(there["ca"], CERTIFICATE) + pem_blocks(there.get("extra-certs", b""), CERTIFICATE)
    trusted += pem_blocks(there["cert"], CERTIFICATE)[1:]
    refusal = _verify(client, server, trusted, asked=role)
    if refusal and refusal.verify_code == V_ERR_INVALID_PURPOSE:
        other = "client" if role == "server" else "server"
        refusal = _verify(client, server, trusted, asked=other)
        if not refusal:
            verdict.remarks.append(
                f"cert: {cert} is one for a {other}: peers that look at that (remote-cert-tls {role}) refuse it"
            )
    if refusal and refusal.verify_code == V_ERR_CERT_HAS_EXPIRED:
        verdict.refusals.append(f"ca: {files['ca'].label} has expired, or a CA between it and {cert}; renew it")
    elif refusal:
        verdict.refusals.append(
            f"cert: {cert} is not signed by the CA in {files['ca'].label} ({refusal.verify_message}); "
            "name the CA that signed it, or add its certificate to 'extra-certs'"
        )


def _context(kind: int, there: t.Mapping[str, bytes], password: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(kind)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # how strong a key must be is for OpenVPN to say
    with _file(there["cert"]) as cert, _file(there["key"]) as key:
        context.load_cert_chain(cert, key, lambda: password)  # without a password, no question on a terminal
    return context


@contextlib.contextmanager
def _file(data: bytes) -> t.Iterator[str]:
    """A file that is nowhere on a disk."""
    descriptor = os.memfd_create("clustered-openvpn")
    try:
        os.write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _verify(
    client: ssl.SSLContext, server: ssl.SSLContext, trusted: t.Sequence[bytes], *, asked: str
) -> ssl.SSLCertVerificationError | None:
    """Let one end verify the certificate of the other, the one that is C(asked)."""
    client.verify_mode = server.verify_mode = ssl.CERT_NONE
    verifier = client if asked == "server" else server
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
    except (ssl.SSLError, OSError):  # no cipher for such a key, for example
        pass
    return None


def _day(when: datetime.datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"
