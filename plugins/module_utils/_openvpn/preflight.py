# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What would go wrong, found out before a process is touched: programs, files, certificates, ports."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import typing as t
from dataclasses import dataclass

from .._kernel import namespaces
from .._kernel.command import PACKAGES, CommandError
from . import processes, supervisor
from .certificates import Pem, Verdict, judge
from .config import READ_AT_CONNECT, Config, Endpoint, read_file
from .instance import Instance

PROGRAMS = ("openvpn", "ip", "setpriv", "nsenter")
KEY_FILES = ("ca", "cert", "key", "crl-verify", "extra-certs", "askpass")


def missing_programs(
    which: t.Callable[[str], t.Any] = lambda name: shutil.which(name, path=supervisor.PATH),
) -> list[str]:
    """Programs that processes cannot be run without."""
    return [
        f"the program {name!r} is missing in {supervisor.PATH}: install the package {PACKAGES[name]}"
        for name in PROGRAMS
        if not which(name)
    ]


# --- certificates and keys --------------------------------------------------------------------------------------------


class Keys:
    """Judges what configurations name. Instances mostly share it, so each set of files is judged once."""

    def __init__(self) -> None:
        self._known: dict[tuple[t.Any, ...], Verdict] = {}

    def judge(self, config: Config, role: str) -> Verdict:
        where = [(name, config.inline.get(name), config.paths.get(name)) for name in KEY_FILES]
        key = (role, config.path if config.inline else "", *where)
        if key not in self._known:
            now = datetime.datetime.now(datetime.timezone.utc)
            self._known[key] = judge(key_files(config), role, now)
        return self._known[key]


def key_files(config: Config) -> dict[str, Pem]:
    """What a configuration says about certificates. A directory of revocation lists is none of them."""
    found = {}
    for name in KEY_FILES:
        if name in config.inline:
            found[name] = Pem(f"<{name}> in {config.path}", config.inline[name].encode(errors="replace"))
        elif name in config.paths and config.values(name)[-1][1:2] != ("dir",):
            found[name] = Pem(config.paths[name], read_file(config.paths[name]))
    return found


# --- files ------------------------------------------------------------------------------------------------------------


def unreadable(subjects: t.Iterable[tuple[Instance, Config]]) -> dict[str, list[str]]:
    """Files that an instance's user cannot read, by the instance's name. One process for each user."""
    files: dict[tuple[str, str], set[str]] = {}
    named = {}
    for instance, config in subjects:
        at_connect = [config.paths[name] for name in READ_AT_CONNECT if name in config.paths]
        named[instance.name] = {path for path in (*config.files, *at_connect) if os.path.exists(path)}
        files.setdefault((instance.user, instance.group), set()).update(named[instance.name])
    closed = {who: _closed(*who, sorted(paths)) for who, paths in files.items()}
    return {
        instance.name: sorted(named[instance.name] & closed[instance.user, instance.group])
        for instance, _config in subjects
    }


def _closed(user: str, group: str, paths: t.Sequence[str]) -> set[str]:
    test = 'for f; do { [ -r "$f" ] && { [ ! -d "$f" ] || [ -x "$f" ]; }; } || printf "%s\\0" "$f"; done'
    become = ["setpriv", "--reuid", user, "--regid", group, "--init-groups", "--inh-caps=-all"]
    try:
        return {path for path in supervisor.run([*become, "sh", "-c", test, "sh", *paths]).split("\0") if path}
    except CommandError:  # then the start will tell
        return set()


def changed_since(config: Config, moment: float) -> list[str]:
    """Files that are read at every connect, and that changed after C(moment)."""
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


# --- ports ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Holder:
    """Who has a port. C(pid) 0: the kernel, or a process that cannot be seen."""

    endpoint: Endpoint
    pid: int = 0
    name: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} ({self.name})" if self.pid else "the kernel, or a process that cannot be seen"


def holders(netns: str) -> list[Holder]:
    """What listens in a namespace."""
    command = ["ss", "--no-header", "--numeric", "--listening", "--tcp", "--udp", "--processes"]
    try:
        return parse_ss(supervisor.run([*(["nsenter", f"--net={namespaces.path(netns)}"] if netns else []), *command]))
    except CommandError:  # then the start will tell
        return []


def parse_ss(output: str) -> list[Holder]:
    """C(udp UNCONN 0 0 192.0.2.1%eth0:1194 0.0.0.0:* users:(("openvpn",pid=7,fd=5))). Pure."""
    found = []
    for line in output.splitlines():
        fields = line.split(None, 6)
        if len(fields) < 6 or fields[0] not in ("udp", "tcp"):
            continue
        host, _colon, port = fields[4].rpartition(":")
        host = host.strip("[]").partition("%")[0].strip("[]")
        # ss writes * where both families are taken, and [::] where it is IPv6 alone
        wildcard = {"*": (6, False), "::": (6, True), "0.0.0.0": (4, False)}.get(host)
        if not port.isdigit():
            continue
        endpoint = Endpoint(fields[0], int(port), host)
        if wildcard:
            endpoint = Endpoint(fields[0], int(port), "", wildcard[0], v6only=wildcard[1])
        users = re.findall(r'\("((?:[^"\\]|\\.)*)",pid=(\d+)', fields[6] if len(fields) > 6 else "")
        found += [Holder(endpoint, int(pid), name) for name, pid in users] or [Holder(endpoint)]
    return found


def taken(wanted: t.Iterable[tuple[Instance, Endpoint]], ours: t.Collection[int]) -> dict[str, str]:
    """Instances whose port another process has: a sentence by the instance's name. C(ours): processes that will end."""
    seen: dict[str, list[Holder]] = {}
    found = {}
    for instance, endpoint in wanted:
        if instance.netns not in seen:
            seen[instance.netns] = holders(instance.netns)
        for holder in seen[instance.netns]:
            if holder.pid in ours or not endpoint.overlaps(holder.endpoint):
                continue
            if not processes.is_ours(
                processes.command_line(holder.pid), instance
            ):  # systemd may have started it a moment ago
                found[instance.name] = (
                    f"{endpoint} is held by {holder} in {place(instance.netns)}; end that, or give another port"
                )
    return found


def shared(wanted: t.Sequence[tuple[Instance, Endpoint]]) -> list[str]:
    """Two instances of one task that want the same port of the same namespace. Pure."""
    found = []
    by_netns: dict[tuple[str, str, int], list[tuple[Instance, Endpoint]]] = {}
    for instance, endpoint in wanted:
        earlier = by_netns.setdefault((instance.netns, endpoint.protocol, endpoint.port), [])
        for other, at in earlier:
            if endpoint.overlaps(at):
                found.append(
                    f"{instance.name}: {instance.config}: {endpoint} is the port of {other.name} too, "
                    f"in {place(instance.netns)}; give each its own"
                )
                break
        earlier.append((instance, endpoint))
    return found


def place(netns: str) -> str:
    return f"the network namespace {netns}" if netns else "the host's own network namespace"
