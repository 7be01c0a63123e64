# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks before the first change: parameters, programs, accounts, files, certificates, ports."""

from __future__ import annotations

import contextlib
import datetime
import grp
import os
import pwd
import shutil
import typing as t

from .._kernel import namespaces
from .._kernel.command import CommandError, missing
from . import ports, supervisor
from .certificates import Findings, Pem, check
from .config import READ_AT_CONNECT, Config, Endpoint, read_file
from .instance import Instance
from .managed import ManagedInstance
from .supervisor_systemd import hidden_from_unit

PROGRAMS = ("openvpn", "ip", "setpriv", "nsenter")
KEY_FILES = ("ca", "cert", "key", "crl-verify", "extra-certs", "askpass")


def invalid_parameters(instances: t.Collection[ManagedInstance], *, systemd: bool) -> list[str]:
    """Errors in parameters and configurations that no other task can fix."""
    found = []
    cpus = os.cpu_count() or 1
    for managed in instances:
        name, config = managed.name, managed.config
        if managed.instance.cpus and managed.instance.cpus[-1] >= cpus:
            found.append(f"{name}: cpus: {list(managed.instance.cpus)}: this host has the CPUs 0 to {cpus - 1}")
        if config:
            found += [f"{name}: {config.path}: {sentence}" for sentence in config.unsuitable()]
            found += [
                f"{name}: {path}: units have no access to home directories (ProtectHome=); move the file to /etc"
                for path in (hidden_from_unit(config.files) if systemd else [])
            ]
    return found + ports.conflicts(endpoints(instances))


def missing_prerequisites(instances: t.Iterable[ManagedInstance]) -> list[str]:
    """Errors for programs, namespaces, configurations and accounts that do not exist (yet)."""
    found = missing_programs()
    for managed in instances:
        i = managed.instance
        if not namespaces.exists(i.netns):
            found.append(
                f"{i.name}: netns: the network namespace {i.netns!r} does not exist; "
                "create it with the module clustered.openvpn.netns"
            )
        if managed.config is None:
            found.append(f"{i.name}: config: {i.config!r} does not exist or is not a file; write it first")
        for key, name, lookup in (("user", i.user, pwd.getpwnam), ("group", i.group, grp.getgrnam)):
            try:
                lookup(name)
            except KeyError:
                found.append(f"{i.name}: {key}: {name!r} does not exist on this host; create it or use another {key}")
    return found


def missing_programs(
    which: t.Callable[[str], t.Any] = lambda name: shutil.which(name, path=supervisor.PATH),
) -> list[str]:
    """Errors for programs that are required to run an instance and not installed."""
    return [f"{missing(name)} (searched in {supervisor.PATH})" for name in PROGRAMS if not which(name)]


def failing_starts(instances: t.Collection[ManagedInstance], warn: t.Callable[[str], None]) -> dict[str, str]:
    """Name of an instance -> why its process would not start, or would refuse all clients.

    Certificates are also checked for instances that keep running; C(warn) receives these errors.
    """
    found = {}
    starting = [managed for managed in instances if managed.starts and managed.config]
    no_access = unreadable([(m.instance, m.config) for m in starting if m.config and _has_account(m.instance)])
    ports_in_use = ports.in_use(endpoints(starting), {m.observed.pid for m in starting if m.observed.pid})
    certificates = CertificateChecks()
    for managed in instances:
        if managed.config is None:
            continue
        name, instance = managed.name, managed.instance
        connects = managed.config.has("client") or managed.config.has("tls-client")
        findings = certificates.check(managed.config, "client" if connects else instance.role)
        for sentence in findings.warnings + ([] if managed.starts else findings.errors):
            warn(f"{name}: {sentence}")
        if not managed.starts:
            continue
        errors = list(findings.errors)
        if no_access.get(name):
            account = f"the user {instance.user} with the group {instance.group}"
            errors.append(f"{account} cannot read {', '.join(no_access[name])}; change their owner or mode")
        if name in ports_in_use:
            errors.append(f"{instance.config}: {ports_in_use[name]}")
        if errors:
            found[name] = "; ".join(errors)
    return found


def endpoints(instances: t.Iterable[ManagedInstance]) -> list[tuple[Instance, Endpoint]]:
    """The instances that listen on a fixed port, with that port."""
    return [(m.instance, m.config.listens) for m in instances if m.config and m.config.listens]


def _has_account(instance: Instance) -> bool:
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(instance.user) and grp.getgrnam(instance.group))
    return False


# --- certificates and keys --------------------------------------------------------------------------------------------


class CertificateChecks:
    """Checks the certificates of configurations. Most instances share theirs, so each set of files is checked once."""

    def __init__(self) -> None:
        self._done: dict[tuple[t.Any, ...], Findings] = {}

    def check(self, config: Config, role: str) -> Findings:
        """The findings about one configuration. C(role): server, client."""
        sources = [(name, config.inline.get(name), config.paths.get(name)) for name in KEY_FILES]
        key = (role, config.path if config.inline else "", *sources)
        if key not in self._done:
            now = datetime.datetime.now(datetime.timezone.utc)
            self._done[key] = check(key_files(config), role, now)
        return self._done[key]


def key_files(config: Config) -> dict[str, Pem]:
    """Directive -> the certificate, key or revocation list that it names. Directories of lists are left out."""
    found = {}
    for name in KEY_FILES:
        if name in config.inline:
            found[name] = Pem(f"<{name}> in {config.path}", config.inline[name].encode(errors="replace"))
        elif name in config.paths and config.values(name)[-1][1:2] != ("dir",):
            found[name] = Pem(config.paths[name], read_file(config.paths[name]))
    return found


# --- files ------------------------------------------------------------------------------------------------------------


def unreadable(configs: t.Iterable[tuple[Instance, Config]]) -> dict[str, list[str]]:
    """Name of an instance -> files that its user cannot read. Runs one process per user and group."""
    by_account: dict[tuple[str, str], set[str]] = {}
    by_name = {}
    for instance, config in configs:
        at_connect = [config.paths[name] for name in READ_AT_CONNECT if name in config.paths]
        by_name[instance.name] = {path for path in (*config.files, *at_connect) if os.path.exists(path)}
        by_account.setdefault((instance.user, instance.group), set()).update(by_name[instance.name])
    closed = {account: _no_access(*account, sorted(paths)) for account, paths in by_account.items()}
    return {
        instance.name: sorted(by_name[instance.name] & closed[instance.user, instance.group])
        for instance, _config in configs
    }


def _no_access(user: str, group: str, paths: t.Sequence[str]) -> set[str]:
    test = 'for f; do { [ -r "$f" ] && { [ ! -d "$f" ] || [ -x "$f" ]; }; } || printf "%s\\0" "$f"; done'
    become = ["setpriv", "--reuid", user, "--regid", group, "--init-groups", "--inh-caps=-all"]
    try:
        return {path for path in supervisor.run([*become, "sh", "-c", test, "sh", *paths]).split("\0") if path}
    except CommandError:  # an unreadable file then fails the start
        return set()


def changed_since(config: Config, moment: float) -> list[str]:
    """Files read at every connect that changed after C(moment), in seconds since 1970."""
    found = []
    for name in READ_AT_CONNECT:
        path = config.paths.get(name)
        if path and supervisor.newest_change([path, *_entries(path)]) > moment:
            found.append(path)
    return found


def _entries(directory: str) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(directory)]
    except OSError:
        return []
