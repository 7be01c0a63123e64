# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates and revocation lists (CRLs), read from their PEM and DER encodings. Pure."""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime
import hashlib
import re
import typing as t
from dataclasses import dataclass, field

CERTIFICATE = "(?:X509 )?CERTIFICATE"
REVOCATION_LIST = "X509 CRL"

# Types of text in a name (UTF8String, PrintableString, T61String, IA5String, VisibleString, UniversalString, BMPString)
# -> Python's codec. As in OpenSSL, those of one byte are read as Latin-1.
TEXTS = {0x0C: "utf-8", 0x1C: "utf-32-be", 0x1E: "utf-16-be", **dict.fromkeys((0x13, 0x14, 0x16, 0x1A), "latin-1")}
TO_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
COMMON_NAME = "550403"
ATTRIBUTES = {
    COMMON_NAME: "CN",
    "550405": "serialNumber",
    "550406": "C",
    "550407": "L",
    "550408": "ST",
    "55040a": "O",
    "55040b": "OU",
    "2a864886f70d010901": "emailAddress",
    "0992268993f22c640119": "DC",
}
SUBJECT_KEY_IDENTIFIER, AUTHORITY_KEY_IDENTIFIER = b"\x55\x1d\x0e", b"\x55\x1d\x23"

# One tuple for each relative distinguished name: of (type of attribute, tag or 0 for text, value).
Name = tuple[tuple[tuple[bytes, int, bytes], ...], ...]


@dataclass(frozen=True)
class Signed:
    """A certificate or a revocation list. C(until) None: it does not expire.

    Names are in the form in which they are compared (canonical_name). C(key_id): of the certificate's own key;
    C(authority_key_id): of the key that signed it, empty if unknown. C(revoked): serial number -> since when.
    """

    issuer: Name
    subject: Name
    since: datetime.datetime
    until: datetime.datetime | None
    serial: int = 0
    issuer_text: str = ""
    subject_text: str = ""
    common_name: str = ""
    public_key: bytes = b""
    key_id: bytes = b""
    authority_key_id: bytes = b""
    fingerprint: str = ""
    revoked: t.Mapping[int, datetime.datetime] = field(default_factory=dict, hash=False)


def pem_blocks(data: bytes, kind: str) -> list[bytes]:
    """The DER encodings of all blocks of one kind."""
    pattern = f"-----BEGIN {kind}-----\\s(.*?)-----END {kind}-----".encode()
    found = []
    for body in re.findall(pattern, data, re.DOTALL):
        with contextlib.suppress(binascii.Error):
            found.append(base64.b64decode(b"".join(body.split()), validate=True))
    return found


def certificates(data: bytes) -> list[Signed]:
    """The certificates in a PEM file that can be parsed."""
    return _parsed(pem_blocks(data, CERTIFICATE), read_certificate)


def revocation_lists(data: bytes) -> list[Signed]:
    """The revocation lists in a PEM file, or the one in a DER file, that can be parsed."""
    return _parsed(pem_blocks(data, REVOCATION_LIST) or [data], read_revocation_list)


def _parsed(blocks: t.Iterable[bytes], read: t.Callable[[bytes], Signed]) -> list[Signed]:
    found = []
    for der in blocks:
        with contextlib.suppress(ValueError):
            found.append(read(der))
    return found


def issued_by(certificate: Signed, authority: Signed) -> bool:
    """Whether the authority's name and key are those of the certificate's issuer. Does not verify the signature."""
    return certificate.issuer == authority.subject and certificate.authority_key_id in (b"", authority.key_id)


def same_authority(one: Signed, other: Signed) -> bool:
    """Whether both have the same name and key, as a renewed authority has: peers accept certificates of either."""
    return (one.subject, one.public_key) == (other.subject, other.public_key)


# --- names ------------------------------------------------------------------------------------------------------------


def canonical_name(encoded: bytes) -> Name:
    """The content of a DER name in the form in which OpenSSL's X509_NAME_cmp and RFC 5280, 7.1 compare names.

    The types of text are equivalent, as are upper and lower case of ASCII letters; spaces at the ends are ignored, and
    several inside are equivalent to one.
    """
    return tuple(tuple(sorted(_canonical(*one) for one in _attributes(part))) for part in _parts(encoded))


def _parts(encoded: bytes) -> list[bytes]:
    return [content for _set, content in _elements(encoded)]


def _attributes(part: bytes) -> list[tuple[bytes, int, bytes]]:
    """Type, tag and content of each attribute of a relative distinguished name; nearly always there is one."""
    found = []
    for _sequence, content in _elements(part):
        (_oid, kind), (tag, value) = _elements(content)[:2]
        found.append((kind, tag, value))
    return found


def _canonical(kind: bytes, tag: int, value: bytes) -> tuple[bytes, int, bytes]:
    try:
        text = value.decode(TEXTS[tag])
    except (KeyError, UnicodeDecodeError):
        return kind, tag, value
    text = re.sub("[ \t\n\v\f\r]+", " ", text).strip(" ")
    return kind, 0, text.translate(TO_LOWER).encode()


def _text(kind: bytes, tag: int, value: bytes) -> str:
    try:
        text = value.decode(TEXTS[tag])
    except (KeyError, UnicodeDecodeError):
        text = value.decode("ascii", "backslashreplace")
    text = "".join(char if char.isprintable() else "?" for char in text)  # it may come from another host
    return f"{ATTRIBUTES.get(kind.hex(), kind.hex())}={text}"


def _name_text(encoded: bytes) -> str:
    """A name as C(openssl x509 -nameopt RFC2253) shows it, but in the order of the encoding."""
    return ",".join("+".join(_text(*one) for one in _attributes(part)) for part in _parts(encoded))[:200]


def _common_name(encoded: bytes) -> str:
    found = [one for part in _parts(encoded) for one in _attributes(part) if one[0].hex() == COMMON_NAME]
    return _text(*found[-1])[len("CN=") :] if found else ""


# --- encoding ---------------------------------------------------------------------------------------------------------


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
    """Parse a DER certificate. Raises ValueError."""
    # RFC 5280, 4.1: version [0], serial number, algorithm, issuer, validity, subject, public key, extensions [3]
    try:
        parts = _elements(_elements(_elements(der)[0][1])[0][1])
        parts = parts[1:] if parts[0][0] == 0xA0 else parts
        since, until = _elements(parts[3][1])
        extensions = _extensions(next((content for tag, content in parts[6:] if tag == 0xA3), b""))
        # Without the extension, the key's identifier is that of RFC 5280, 4.2.1.2: a hash of the bits.
        key_id = hashlib.sha1(_elements(parts[5][1])[1][1][1:]).digest()
        if SUBJECT_KEY_IDENTIFIER in extensions:
            key_id = _elements(extensions[SUBJECT_KEY_IDENTIFIER])[0][1]
        issuer_key = _elements(_elements(extensions.get(AUTHORITY_KEY_IDENTIFIER, b"\x30\x00"))[0][1])
        return Signed(
            canonical_name(parts[2][1]),
            canonical_name(parts[4][1]),
            _time(*since),
            _time(*until),
            serial=int.from_bytes(parts[0][1], "big"),
            issuer_text=_name_text(parts[2][1]),
            subject_text=_name_text(parts[4][1]),
            common_name=_common_name(parts[4][1]),
            public_key=parts[5][1],
            key_id=key_id,
            authority_key_id=next((content for tag, content in issuer_key if tag == 0x80), b""),
            fingerprint=hashlib.sha256(der).hexdigest(),
        )
    except IndexError as exc:
        raise ValueError("not a certificate") from exc


def _extensions(content: bytes) -> dict[bytes, bytes]:
    """Extension -> its value."""
    found = {}
    for _sequence, extension in _elements(_elements(content)[0][1]) if content else []:
        parts = _elements(extension)  # identifier, critical (optional), value
        found[parts[0][1]] = parts[-1][1]
    return found


def read_revocation_list(der: bytes) -> Signed:
    """Parse a DER revocation list. Raises ValueError."""
    # RFC 5280, 5.1: version, algorithm, issuer, this update, next update (optional), certificates (optional)
    try:
        parts = _elements(_elements(_elements(der)[0][1])[0][1])
        parts = parts[1:] if parts[0][0] == 0x02 else parts
        until = _time(*parts[3]) if len(parts) > 3 and parts[3][0] in (0x17, 0x18) else None
        entries = next((content for tag, content in parts[3:5] if tag == 0x30), b"")
        revoked = {}
        for _sequence, entry in _elements(entries):
            (_integer, serial), when = _elements(entry)[:2]
            revoked[int.from_bytes(serial, "big")] = _time(*when)
        issuer = _name_text(parts[1][1])
        return Signed(canonical_name(parts[1][1]), (), _time(*parts[2]), until, issuer_text=issuer, revoked=revoked)
    except IndexError as exc:
        raise ValueError("not a revocation list") from exc
