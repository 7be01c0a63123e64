# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the role pki refuses to issue certificates. Pure.

Clients accept a server only if its certificate is of the authority that they have. So an authority in use is not
replaced by another, and its revocation list does not lose an entry, unless a variable permits it.
"""

from __future__ import annotations

import datetime
import hashlib
import typing as t
from dataclasses import dataclass, field

from .der import Signed, certificates, issued_by, revocation_lists, same_authority

NOTHING_REVOKED = "none"
SHOWN = 10


@dataclass(frozen=True)
class Settings:
    """Variables of the role. C(ca_certificate), C(ca_private_key): of an external authority, both or none."""

    directory: str
    name: str = "vpn"
    ca_certificate: str = ""
    ca_private_key: str = ""
    ca_common_name: str = ""
    ca_crl: str = ""
    server_common_name: str = ""
    clients: t.Sequence[t.Any] = ()
    revoked: t.Sequence[t.Any] = ()
    revoked_serials: t.Sequence[t.Any] = ()
    ca_renew_days: int = 1095
    renew_days: int = 60
    crl_renew_days: int = 365
    replace_authority: bool = False


@dataclass(frozen=True)
class Files:
    """Files on the controller: path relative to the directory -> content, and those outside it.

    C(key_error): why the private key of the authority cannot be used.
    """

    inside: t.Mapping[str, bytes] = field(default_factory=dict)
    ca_certificate: bytes | None = None
    ca_crl: bytes | None = None
    key_error: str = ""


@dataclass(frozen=True)
class Host:
    """The certificates that a host has, and the SHA-1 checksum of its tls-crypt key; empty if it has none."""

    name: str
    directory: str
    files: t.Mapping[str, bytes] = field(default_factory=dict)
    tls_crypt: str = ""


def first(signed: t.Sequence[Signed]) -> Signed | None:
    return signed[0] if signed else None


def ca_data(settings: Settings, files: Files) -> bytes | None:
    return files.ca_certificate if settings.ca_certificate else files.inside.get("ca.crt")


def own_list(files: Files, ca: Signed | None) -> Signed | None:
    """The revocation list in the directory, if it is the authority's."""
    lists = revocation_lists(files.inside.get("crl.pem", b""))
    return first([one for one in lists if ca and one.issuer == ca.subject])


def read(files: Files, path: str) -> list[Signed]:
    return certificates(files.inside[path])[:1]


# --- refusals ---------------------------------------------------------------------------------------------------------


def refusals(
    settings: Settings, files: Files, hosts: t.Iterable[Host], revoked: t.Collection[int], now: datetime.datetime
) -> list[str]:
    errors = [_not_an_authority(settings, files), *_damaged(settings, files)]
    used = certificates(ca_data(settings, files) or b"")
    errors += [_external_list(settings, files, first(used), now)]
    if used:
        errors += [_other_names(settings, files, used[0]), _other_authority(settings, files, used)]
    if not any(errors):  # for a broken directory, what hosts have adds nothing
        for host in hosts:
            errors += _host(settings, files, used, host, revoked)
    return [error for error in errors if error]


def _shown(authority: Signed) -> str:
    return f"{authority.subject_text} (SHA-256 {authority.fingerprint})"


def _not_an_authority(settings: Settings, files: Files) -> str:
    """Problems with the files of the authority itself."""
    if settings.ca_certificate:
        if files.ca_certificate is None or not certificates(files.ca_certificate):
            return f"pki_ca_certificate: {settings.ca_certificate} contains no certificate in PEM format"
        return files.key_error
    directory, inside = settings.directory, files.inside
    issued = "server.crt" in inside or any("/" in path for path in inside)
    if "ca.crt" in inside and not certificates(inside["ca.crt"]):
        return f"pki_directory: {directory}/ca.crt contains no certificate in PEM format; restore it from a backup"
    if "ca.crt" in inside and "ca.key" not in inside:
        return (
            f"pki_directory: {directory} has the certificate of the authority "
            f"{_shown(certificates(inside['ca.crt'])[0])}, but not its key; restore ca.key from a backup, or, for an "
            "external authority, set pki_ca_certificate and pki_ca_private_key; a new authority needs another directory"
        )
    if "ca.key" in inside and "ca.crt" not in inside and issued:
        return (
            f"pki_directory: {directory} has the key of an authority that has issued certificates, but not its "
            "ca.crt; restore it from a backup or from a host of the cluster"
        )
    return files.key_error


def _damaged(settings: Settings, files: Files) -> list[str]:
    """Files whose loss nobody would notice: the serial numbers in them could not be revoked any more."""
    errors = []
    for path in sorted(files.inside):
        if path.startswith("clients/") and (path.endswith((".crt", "~"))) and not read(files, path):
            errors.append(
                f"pki_directory: {settings.directory}/{path} contains no certificate in PEM format; restore it from a "
                "backup, or delete it to have a new one issued"
            )
    if "crl.pem" in files.inside and not revocation_lists(files.inside["crl.pem"]):
        errors.append(
            f"pki_directory: {settings.directory}/crl.pem contains no revocation list in PEM format; restore it from a "
            "backup or from a host of the cluster: a new list would admit revoked clients again"
        )
    return errors


def _other_names(settings: Settings, files: Files, ca: Signed) -> str:
    """An authority keeps its name, and so does the server, whose certificate clusters may share."""
    wanted = settings.ca_common_name
    if wanted and wanted != ca.common_name and not settings.ca_certificate:
        return (
            f"pki_ca_common_name: {wanted!r}, but the authority in {settings.directory} is {ca.subject_text}; remove "
            "the variable, or use another pki_directory for another authority"
        )
    server = first(certificates(files.inside.get("server.crt", b"")))
    wanted = settings.server_common_name
    if wanted and server and issued_by(server, ca) and server.common_name != wanted:
        return (
            f"pki_server_common_name: {wanted!r}, but the server's certificate in {settings.directory} has the name "
            f"{server.common_name!r}; clusters with a common pki_directory have one server certificate: remove the "
            "variable, use another pki_directory, or delete server.crt to have it issued with the new name"
        )
    return ""


def _other_authority(settings: Settings, files: Files, used: t.Sequence[Signed]) -> str:
    """The directory was used with another authority before."""
    if settings.replace_authority:
        return ""
    before = first(certificates(files.inside.get("ca.crt", b"")))
    if before and not _trusted(before, used):
        return (
            f"pki_ca_certificate: {settings.ca_certificate} is {_shown(used[0])}, but {settings.directory} was used "
            f"with {_shown(before)}; use another pki_directory, or set pki_replace_authority to true and give all "
            "clients new certificates"
        )
    lists = revocation_lists(files.inside.get("crl.pem", b""))
    if lists and not own_list(files, used[0]):
        return (
            f"pki_directory: {settings.directory}/crl.pem is the revocation list of {lists[0].issuer_text}, not of the "
            f"authority {used[0].subject_text}; restore the right one from a backup or from a host of the cluster"
        )
    return ""


def _trusted(authority: Signed, used: t.Iterable[Signed]) -> bool:
    """Whether peers that have this authority accept certificates of those in use, or of an older one among them."""
    return any(same_authority(authority, one) for one in used)


def _external_list(settings: Settings, files: Files, ca: Signed | None, now: datetime.datetime) -> str:
    """Certificates that the authority has revoked elsewhere must not be admitted by a list of ours."""
    path = settings.ca_crl
    if path and path != NOTHING_REVOKED:
        lists = revocation_lists(files.ca_crl or b"")
        ours = [one for one in lists if ca and one.issuer == ca.subject]
        if not lists:
            return f"pki_ca_crl: {path} contains no revocation list; give the path of a PEM or DER file"
        if not ours:
            of = ca.subject_text if ca else f"{settings.directory}, which has none yet"
            return f"pki_ca_crl: {path} is a list of {lists[0].issuer_text}, not of the authority {of}"
        newest = max(ours, key=lambda one: one.since)
        if newest.until and newest.until < now:
            return (
                f"pki_ca_crl: {path} expired on {newest.until:%Y-%m-%d}, so later revocations are missing; use the "
                "authority's current list"
            )
    elif not path and ca and settings.ca_certificate and not settings.revoked_serials and not own_list(files, ca):
        return (
            f"pki_ca_crl: empty, but {_shown(ca)} may have revoked certificates, which a new list would admit again; "
            "set it to the path of the authority's current revocation list, or list serial numbers in "
            f"pki_revoked_serials, or set pki_ca_crl to {NOTHING_REVOKED} if nothing was revoked"
        )
    return ""


def _host(
    settings: Settings, files: Files, used: t.Sequence[Signed], host: Host, revoked: t.Collection[int]
) -> list[str]:
    """A host that has certificates of another authority, another tls-crypt key or a longer list."""
    place = f"{host.name}:{host.directory}"
    other = "" if settings.replace_authority else _authority_of_host(used, host)
    if other:
        variable, path = "pki_directory", settings.directory
        if settings.ca_certificate:
            variable, path = "pki_ca_certificate", settings.ca_certificate
        return [
            f"{variable}: {path} has {f'the authority {_shown(used[0])}' if used else 'no authority'}, but {place} has "
            f"{other}, so all its clients would be refused; copy the pki_directory of that authority from "
            "the controller where it was created, or set pki_replace_authority to true and give all clients new "
            "certificates"
        ]
    errors = []
    key = files.inside.get("tls-crypt.key")
    known = [hashlib.sha1(one).hexdigest() for one in ([] if key is None else [key, key.rstrip() + b"\n"])]
    if host.tls_crypt and host.tls_crypt not in known and not settings.replace_authority:
        errors.append(
            f"pki_directory: {settings.directory} has {'no' if key is None else 'another'} tls-crypt.key, but clients "
            f"use that of {place}; copy it from there to the controller, or, to replace it for all clients, set "
            "pki_replace_authority to true"
        )
    lists = [one for one in revocation_lists(host.files.get("crl.pem", b"")) if used and one.issuer == used[0].subject]
    lost = sorted({serial for one in lists for serial in one.revoked} - set(revoked))
    if lost:
        errors.append(
            f"pki_directory: {place}/crl.pem revokes {len(lost)} certificates that {settings.directory}/crl.pem does "
            f"not, so they would be admitted again: {', '.join(map(hex, lost[:SHOWN]))}"
            f"{', …' if len(lost) > SHOWN else ''}; use the latest pki_directory, or set pki_ca_crl to a copy of that "
            "file, or list them in pki_revoked_serials"
        )
    return errors


def _authority_of_host(used: t.Sequence[Signed], host: Host) -> str:
    """The authority of a host, if it is another one; by the server's certificate if that of the authority is gone."""
    installed = first(certificates(host.files.get("ca.crt", b"")))
    if installed:
        return "" if _trusted(installed, used) else f"the authority {_shown(installed)}"
    server = first(certificates(host.files.get("server.crt", b"")))
    if server and not any(issued_by(server, one) for one in used):
        return f"a server certificate of the authority {server.issuer_text}"
    return ""
