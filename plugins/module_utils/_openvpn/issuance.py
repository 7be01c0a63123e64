# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which certificates the role pki issues and revokes. Pure."""

from __future__ import annotations

import datetime
import re
import typing as t
from dataclasses import dataclass

from .authority import Files, Host, Settings, ca_data, first, own_list, read, refusals
from .der import Signed, certificates, issued_by, revocation_lists

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}")
LARGEST_SERIAL = 1 << 160  # RFC 5280, 4.1.2.2


@dataclass(frozen=True)
class Plan:
    """C(refusals): errors, and then nothing may change. C(revoke): serial number -> since when, to add to the list."""

    refusals: list[str]
    renew_ca: bool
    renew_server: bool
    renew_crl: bool
    server_common_name: str
    missing: list[str]
    compromised: list[str]
    revoke: dict[int, datetime.datetime]


def plan(settings: Settings, files: Files, hosts: t.Iterable[Host], now: datetime.datetime) -> Plan:
    """Compare the variables with the files on the controller and on the hosts."""
    ca = first(certificates(ca_data(settings, files) or b""))
    server = first(certificates(files.inside.get("server.crt", b"")))
    crl = own_list(files, ca)
    current = _issued(files, ".crt")
    every = current + [one for path in files.inside if "/" in path and path.endswith("~") for one in read(files, path)]
    names = {one.common_name for one in every}
    wanted, revoked, errors = _names(settings, names)
    serials, serial_errors = parse_serials(settings.revoked_serials)
    additional = dict.fromkeys(serials, now)
    additional.update(_external_revocations(files, ca))
    additional.update({one.serial: now for one in every if one.common_name in revoked})
    known = set(crl.revoked) if crl else set()
    keys = {path[len("clients/") : -len(".key")] for path in files.inside if re.fullmatch("clients/[^/]+[.]key", path)}
    valid = {
        one.common_name
        for one in current
        if ca
        and (one.issuer, one.authority_key_id) == (ca.subject, ca.key_id)
        and one.serial not in known
        and one.serial not in additional
        and not _ends_before(one, now, settings.renew_days)
    }
    return Plan(
        errors + serial_errors + refusals(settings, files, hosts, known | set(additional), now),
        renew_ca=ca is None or _ends_before(ca, now, settings.ca_renew_days),
        renew_server=server is not None and _ends_before(server, now, settings.renew_days),
        renew_crl=crl is None or _ends_before(crl, now, settings.crl_renew_days),
        server_common_name=_server_name(settings, ca, server),
        missing=[name for name in wanted if name not in revoked and name not in valid & keys],
        compromised=[one.common_name for one in current if one.serial in known or one.serial in additional],
        revoke={serial: when for serial, when in additional.items() if serial not in known},
    )


def parse_serials(values: t.Iterable[t.Any]) -> tuple[list[int], list[str]]:
    """Serial numbers and errors. Decimal, or hexadecimal with 0x or colons, so that none is taken for the other."""
    found, errors = [], []
    for value in values:
        text = str(value).strip()
        if re.fullmatch("[1-9][0-9]*", text):
            number = int(text)
        elif re.fullmatch("0[xX][0-9A-Fa-f]+|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2})+", text):
            number = int(text.replace(":", ""), 16)
        else:
            number = 0
        if 0 < number < LARGEST_SERIAL:
            found.append(number)
        else:
            errors.append(
                f"pki_revoked_serials: {value!r} is not a serial number; write it decimal (26) or hexadecimal (0x1A)"
            )
    return found, errors


# --- certificates and names -------------------------------------------------------------------------------------------


def _external_revocations(files: Files, ca: Signed | None) -> dict[int, datetime.datetime]:
    lists = [one for one in revocation_lists(files.ca_crl or b"") if ca and one.issuer == ca.subject]
    return {serial: when for one in lists for serial, when in one.revoked.items()}


def _issued(files: Files, suffix: str) -> list[Signed]:
    return [one for path in sorted(files.inside) if "/" in path and path.endswith(suffix) for one in read(files, path)]


def _ends_before(signed: Signed, now: datetime.datetime, days: int) -> bool:
    return signed.until is not None and signed.until < now + datetime.timedelta(days=days)


def _server_name(settings: Settings, ca: Signed | None, server: Signed | None) -> str:
    """The common name of the server's certificate, which stays as it is."""
    if server and ca and issued_by(server, ca) and server.common_name:
        return server.common_name
    return settings.server_common_name or settings.name


def _names(settings: Settings, issued: t.Collection[str]) -> tuple[list[str], list[str], list[str]]:
    """Clients, names to revoke, and errors. YAML reads some names as numbers, which are names nevertheless."""
    errors = []
    lists = {
        "pki_clients": [client["name"] for client in settings.clients],
        "pki_revoked": list(settings.revoked),
    }
    for variable, values in lists.items():
        for value in values:
            if isinstance(value, (bool, float)) or value is None:
                errors.append(f"{variable}: YAML reads a name as {value!r}; put it between quotation marks")
    wanted, revoked = ([str(value) for value in values] for values in lists.values())
    invalid = [name for name in wanted if not NAME.fullmatch(name)]
    if invalid:
        rule = 'a name has 1 to 64 of A-Z, a-z, 0-9, "_", ".", "@" and "-", and begins with a letter, a digit or "_"'
        errors.append(f"pki_clients: {', '.join(map(repr, invalid))}: {rule}")
    repeated = sorted({name for name in wanted if wanted.count(name) > 1})
    if repeated:
        errors.append(f"pki_clients: {', '.join(map(repr, repeated))}: use each name once")
    unknown = [name for name in revoked if name not in issued]
    if unknown:  # with a misspelt name, the client would keep its access
        errors.append(
            f"pki_revoked: no certificate of {', '.join(unknown)} was ever issued in {settings.directory}; correct the "
            "name or remove it from the list; a certificate without a file here is revoked by pki_revoked_serials"
        )
    return wanted, revoked, errors


def unusable(names: t.Iterable[str], files: Files, now: datetime.datetime) -> list[str]:
    """Why certificates of these clients would be refused by servers of the authority in ca.crt, if they would be.

    The directory may be one that the role pki did not write, with intermediate authorities behind the certificate.
    """
    authorities = certificates(files.inside.get("ca.crt", b""))
    found = []
    for name in names:
        chain = certificates(files.inside.get(f"clients/{name}.crt", b""))
        if not chain or not authorities:
            continue  # reported as missing
        if not any(issued_by(chain[0], one) for one in [*authorities, *chain[1:]]):
            found.append(f"{name}: not issued by {authorities[0].subject_text} but by {chain[0].issuer_text}")
        elif _ends_before(chain[0], now, 0):
            found.append(f"{name}: expired on {chain[0].until:%Y-%m-%d}")
    return found
