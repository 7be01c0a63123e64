# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What C(clustered-openvpn check) reports about the servers of a cluster: moved buckets, crash loops, certificates."""

from __future__ import annotations

import time
import typing as t

from .._kernel.command import CommandError
from .._openvpn import supervisor
from .._openvpn.config import read_config
from .._openvpn.instance import Instance, config_path
from .._openvpn.preflight import CertificateChecks
from .._openvpn.supervisor_systemd import parse_show
from .._ring import away, paths
from .._state.cluster import ClusterState
from .._state.files import State

PROPERTIES = ("Id", "ActiveState", "SubState", "NRestarts", "ActiveEnterTimestampMonotonic", "Result")
LOOP, RECENT = 3, 30.0  # a crash loop: this many restarts, and the last one within these seconds


def notes(state: State) -> list[str]:
    """Facts that are no problem: buckets that siblings of failed members have."""
    if not isinstance(state, ClusterState) or state.failover is None or state.failover.keepalived:
        return []
    return away.sentences(away.read(paths.away(state.name)))


def problems(state: State) -> list[str]:
    """Servers that restart again and again, and certificates or revocation lists by which clients are refused."""
    if not isinstance(state, ClusterState):
        return []
    found = []
    if supervisor.has_systemd() and state.servers:
        units = [f"{Instance(name=server.name).unit}.service" for server in state.servers]
        try:
            text = supervisor.run(["systemctl", "show", f"--property={','.join(PROPERTIES)}", *units])
        except CommandError as exc:
            return [str(exc)]
        found += crash_loops(parse_show(text), time.monotonic())
    certificates = CertificateChecks()
    by_problem: dict[str, list[str]] = {}
    for server in state.servers:
        config = read_config(config_path("server", server.name))
        for sentence in certificates.check(config, "server").errors if config else ():
            by_problem.setdefault(sentence, []).append(server.name)
    return found + [f"{', '.join(names)}: {sentence}" for sentence, names in by_problem.items()]


def crash_loops(shown: t.Mapping[str, t.Mapping[str, str]], now: float) -> list[str]:
    """Units that restart again and again: they are never C(failed). C(now): of the monotonic clock. Pure."""
    found = []
    for unit, properties in shown.items():
        restarts = _number(properties.get("NRestarts"))
        running = properties.get("ActiveState") == "active"
        recent = now - _number(properties.get("ActiveEnterTimestampMonotonic")) / 1e6 < RECENT
        if restarts >= LOOP and (not running or recent):
            found.append(
                f"{unit} restarts again and again ({restarts} times, the last result is"
                f" {properties.get('Result', '')}); see journalctl -u {unit}"
            )
    return found


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else 0
