# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters for the directory of the role pki on the controller, which they read. The decisions are in module_utils."""

from __future__ import annotations

import base64
import datetime
import os
import ssl
import typing as t
from dataclasses import asdict
from pathlib import Path

from ansible.errors import AnsibleFilterError

from ..module_utils._openvpn import authority, issuance

MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")


def pki_plan(
    settings: t.Mapping[str, t.Any], passphrase: str = "", hosts: t.Iterable[t.Mapping[str, t.Any]] = ()
) -> dict[str, t.Any]:
    """Variables of the role, without the prefix pki_ -> the certificates to issue and to revoke, and refusals."""
    try:
        given = authority.Settings(**settings)
        files = _files(given, passphrase)
        now = datetime.datetime.now(datetime.timezone.utc)
        plan = issuance.plan(given, files, [_host(host, files) for host in hosts], now)
    except (OSError, TypeError, ValueError) as exc:
        raise AnsibleFilterError(f"pki_directory: {settings.get('directory')}: {exc}") from None
    revoke = [
        {"serial_number": serial, "revocation_date": f"{when:%Y%m%d%H%M%SZ}"} for serial, when in plan.revoke.items()
    ]
    return {**asdict(plan), "revoke": revoke}


def pki_unusable(names: t.Iterable[t.Any], directory: str) -> list[str]:
    """Names of clients -> why the certificates of some cannot be used with the authority in the directory."""
    files = _files(authority.Settings(directory), "")
    return issuance.unusable([str(name) for name in names], files, datetime.datetime.now(datetime.timezone.utc))


def _host(host: t.Mapping[str, t.Any], files: authority.Files) -> authority.Host:
    found = {name: base64.b64decode(content) for name, content in host["content"].items()}
    found.update({name: files.inside[name] for name in host["same"] if name in files.inside})
    return authority.Host(host["name"], host["node_directory"], found, host["tls_crypt"])


def _files(settings: authority.Settings, passphrase: str) -> authority.Files:
    directory = Path(settings.directory).expanduser()
    inside = {}
    for path in [*directory.glob("*"), *directory.glob("clients/*")]:
        if path.is_file():
            # Private keys are not read here.
            listed = path.name.endswith(".key") and path.name != "tls-crypt.key"
            inside[str(path.relative_to(directory))] = b"" if listed else path.read_bytes()
    external = bool(settings.ca_certificate)
    certificate = Path(settings.ca_certificate).expanduser() if external else directory / "ca.crt"
    key = Path(settings.ca_private_key).expanduser() if external else directory / "ca.key"
    revocations = Path(settings.ca_crl).expanduser()
    with_list = settings.ca_crl not in ("", authority.NOTHING_REVOKED) and revocations.is_file()
    return authority.Files(
        inside,
        ca_certificate=certificate.read_bytes() if external and certificate.is_file() else None,
        ca_crl=revocations.read_bytes() if with_list else None,
        key_error=_key_error(certificate, key, passphrase, external),
    )


def _key_error(certificate: Path, key: Path, passphrase: str, external: bool) -> str:
    """Why the private key of the authority cannot be used; empty if it can, or if there is none yet."""
    label = f"{'pki_ca_private_key' if external else 'pki_directory'}: {key}"
    if not key.is_file():
        return f"{label} does not exist on the controller" if external else ""
    if not certificate.is_file():
        return ""
    if not os.access(key, os.R_OK):
        return f"{label} cannot be read by the user who runs Ansible"
    encrypted = b"ENCRYPTED" in key.read_bytes()
    if encrypted and not passphrase:
        return f"pki_ca_passphrase: empty, but the key {key} has a passphrase"
    if passphrase and not encrypted:
        return f"pki_ca_passphrase: set, but the key {key} has no passphrase; remove the variable or encrypt the key"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")  # OpenVPN decides how strong a key must be
    try:
        context.load_cert_chain(certificate, key, lambda: passphrase)  # never prompts on a terminal
    except ssl.SSLError as exc:
        if exc.reason in MISMATCHES:
            return f"{label} is not the key of the certificate {certificate}; use the key that belongs to it"
        if encrypted:
            return f"pki_ca_passphrase: not the passphrase of the key {key}"
        return f"{label} cannot be loaded ({exc.reason})"
    return ""


class FilterModule:
    """The filters that Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name -> function."""
        return {"pki_plan": pki_plan, "pki_unusable": pki_unusable}
