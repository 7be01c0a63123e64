# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Supervisor for hosts with systemd: the distribution's units openvpn-server@ and openvpn-client@, with drop-ins."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import typing as t

from .. import _files
from .._kernel import namespaces
from .._kernel.command import CommandError
from . import processes, supervisor
from .command_line import OPENVPN, openvpn_command
from .instance import Instance, from_dict, to_dict
from .plan import Action, Observed
from .supervisor_process import remove

UNITS = "/etc/systemd/system"
DROP_IN = "clustered-openvpn.conf"
MARK = "# Instance: "  # precedes the instance as JSON: records do not survive a reboot, drop-ins do
TASKS = 64  # the process and its scripts
# Restrictions that also apply to scripts and plugins of an instance: docs/boot.md.
HARDENED = """\
NoNewPrivileges=yes
LockPersonality=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0027""".splitlines()
PROPERTIES = ("Id", "LoadState", "ActiveState", "MainPID", "UnitFileState", "NeedDaemonReload")


def drop_in_path(instance: Instance) -> str:
    """The path of an instance's drop-in."""
    return f"{UNITS}/{instance.unit}.service.d/{DROP_IN}"


def drop_in_text(instance: Instance, caps: t.Sequence[str], binary: str = OPENVPN) -> str:
    """The text of an instance's drop-in. Pure."""
    capabilities = " ".join(f"CAP_{c.upper()}" for c in caps)
    command = " ".join(quote(word) for word in openvpn_command(instance, systemd=True, binary=binary))
    directory = f"clustered-openvpn/{instance.name}"
    lines = [
        "# Managed by Ansible, clustered.openvpn.openvpn_instance: changes made here are overwritten.",
        MARK + json.dumps(to_dict(instance), sort_keys=True),
        "[Unit]",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
    ]
    if instance.netns:
        lines += [
            f"NetworkNamespacePath={namespaces.path(instance.netns)}",
            f"BindReadOnlyPaths=-/etc/netns/{instance.netns}/resolv.conf:/etc/resolv.conf",
        ]
    lines += [
        f"User={instance.user}",
        f"Group={instance.group}",
        f"AmbientCapabilities={capabilities}",
        "CapabilityBoundingSet=",
        f"CapabilityBoundingSet={capabilities}",
        "LimitNPROC=infinity",
        f"TasksMax={TASKS}",
        # a client that its server refuses exits with status 0: it must not retry every second
        f"Restart={'always' if instance.role == 'server' else 'on-failure'}",
        "RestartSec=1s",
        f"RuntimeDirectory={directory}",
        "RuntimeDirectoryMode=0750",
        f"StateDirectory={directory}",
        "StateDirectoryMode=0750",
        *HARDENED,
    ]
    if instance.cpus:
        lines.append(f"CPUAffinity={' '.join(map(str, instance.cpus))}")
    return "\n".join([*lines, "ExecStart=", f"ExecStart={command}", ""])


def instances_in(text: str) -> list[Instance]:
    """The instance that a drop-in was written for; none if its mark is missing or damaged. Pure."""
    with contextlib.suppress(ValueError, TypeError):
        return [from_dict(json.loads(line[len(MARK) :])) for line in text.splitlines() if line.startswith(MARK)]
    return []


def quote(word: str) -> str:
    """Quote a word of ExecStart=, without specifiers and variables (systemd.service, COMMAND LINES). Pure."""
    word = word.replace("%", "%%").replace("$", "$$")
    if re.fullmatch(r"[A-Za-z0-9_@%+=:,./$-]+", word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse_show(text: str) -> dict[str, dict[str, str]]:
    """Parse C(systemctl show) of several units: name without .service -> properties. Pure."""
    found = {}
    for block in text.strip().split("\n\n"):
        properties = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        found[properties.get("Id", "").removesuffix(".service")] = properties
    return found


def hidden_from_unit(paths: t.Iterable[str]) -> list[str]:
    """Files without access for a unit with ProtectHome=. A trial would not detect them: it is not a unit. Pure."""
    return [p for p in paths if p.startswith(("/home/", "/root/", "/run/user/"))]


class SystemdSupervisor:
    """Writes drop-ins, and runs systemctl for all other actions."""

    name = "systemd"

    def __init__(self) -> None:
        self._binary = supervisor.openvpn_binary()

    def observe(self, instances: t.Sequence[Instance]) -> dict[str, Observed]:
        shown = self._show(instances)
        return {i.name: self._observed(i, shown.get(i.unit, {})) for i in instances}

    def _show(self, instances: t.Sequence[Instance]) -> dict[str, dict[str, str]]:
        if not instances:
            return {}
        names = [f"{i.unit}.service" for i in instances]
        return parse_show(supervisor.run(["systemctl", "show", f"--property={','.join(PROPERTIES)}", *names]))

    def _observed(self, instance: Instance, shown: t.Mapping[str, str]) -> Observed:
        pid = int(shown.get("MainPID") or 0)
        path = drop_in_path(instance)
        drop_in = None
        with contextlib.suppress(OSError), open(path, encoding="utf-8") as file:
            drop_in = file.read()
        return Observed(
            pid=pid,
            active=shown.get("ActiveState") not in ("inactive", "failed", None),
            in_netns=bool(pid) and processes.in_netns(pid, instance.netns, host="/proc/1/ns/net"),
            enabled=shown.get("UnitFileState") in ("enabled", "enabled-runtime"),
            files=supervisor.existing((path, instance.run_dir, instance.record, instance.state_dir)),
            drop_in=drop_in,
            needs_reload=shown.get("NeedDaemonReload") == "yes",
        )

    def pid(self, instance: Instance) -> int:
        return int(self._show([instance]).get(instance.unit, {}).get("MainPID") or 0)

    def log(self, instance: Instance, since: float) -> list[str]:
        command = ["journalctl", "--quiet", "--no-pager", "--output=cat", f"--unit={instance.unit}"]
        try:
            return supervisor.run([*command, f"--since=@{since:.6f}", "--lines=200"]).splitlines()
        except CommandError as exc:
            return [str(exc)]

    def instances(self) -> list[Instance]:
        found = []
        for path in sorted(glob.glob(f"{UNITS}/openvpn-*@*.service.d/{DROP_IN}")):
            with contextlib.suppress(OSError), open(path, encoding="utf-8") as file:
                found += instances_in(file.read())
        return found

    def drop_in(self, instance: Instance, caps: t.Sequence[str]) -> str | None:
        return drop_in_text(instance, caps, self._binary)

    def definition(self, instance: Instance, caps: t.Sequence[str]) -> str:
        return drop_in_text(instance, caps, self._binary)

    def commands(self, action: Action, observed: Observed, caps: t.Sequence[str]) -> list[str]:
        if action.op == "reload":
            return ["systemctl daemon-reload"]
        if action.op == "write":
            text = self.drop_in(action.target, caps)
            return [f"install -D -m 0644 /dev/stdin {drop_in_path(action.target)} <<'EOF'\n{text}EOF"]
        if action.op == "pin":
            return [" ".join(supervisor.pin_command(action.target, observed.pid))]
        if action.op == "remove":
            return [f"rm -rf {' '.join(observed.files)}"]
        return [f"systemctl {action.op} {action.target.unit}"]

    def apply(self, action: Action, observed: Observed, caps: t.Sequence[str], timeout: float) -> None:
        if action.op == "reload":
            supervisor.run(["systemctl", "daemon-reload"])
        elif action.op == "write":
            self._write(action.target, caps)
        elif action.op == "pin":  # CPUAffinity= applies from the next start on
            supervisor.run(supervisor.pin_command(action.target, observed.pid))
        elif action.op == "remove":
            remove(observed.files)
        else:
            # TimeoutStopSec= of the unit limits a stop to 90 s
            bound = timeout if action.op in ("start", "restart") else 100
            try:
                supervisor.run(["systemctl", action.op, action.target.unit], bound)
            except CommandError as exc:  # the error includes the log
                raise CommandError(exc.argv, exc.reason.partition("\nSee ")[0].rstrip(".")) from exc

    def _write(self, instance: Instance, caps: t.Sequence[str]) -> None:
        path = drop_in_path(instance)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        _files.replace(path, drop_in_text(instance, caps, self._binary).encode(), 0o644)
