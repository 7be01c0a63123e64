# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a member serves: its OpenVPN instances, and whatever the user has it asked."""

from __future__ import annotations

import os
import signal
import subprocess
import typing as t

from .._kernel import namespaces
from .._openvpn import processes, supervisor
from .._openvpn.instance import Instance, management_socket
from .._openvpn.management import Busy, Management, ManagementError, NotListening

ACCEPTED = "03"  # SS_CONNECTED, the state of an accepted connection in /proc/net/unix


def trouble(instance: Instance, timeout: float) -> str:
    """What is wrong with an instance, in words; "" if nothing is."""
    path = management_socket(instance.name)
    try:
        with Management(path, timeout) as management:
            pid, state = management.pid(), management.state()
    except NotListening:
        return f"{instance.name} does not run"
    except Busy:
        # OpenVPN talks to one client at a time. While that is somebody else, its status file says that it is alive.
        if not _somebody_talks_to_it(instance, path):
            return f"{instance.name} does not answer"
        return "" if supervisor.status_is_fresh(instance) else f"{instance.name} has not written its status for long"
    except ManagementError as exc:
        return f"{instance.name}: {exc}"
    if not state.ready:
        return f"{instance.name} is not ready: {state.name}"
    if not processes.in_netns(pid, instance.netns):
        return f"{instance.name} is in a namespace that is not {instance.netns or 'the host'}'s any more"
    return ""


def refused(command: t.Sequence[str], netns: str, timeout: float) -> str:
    """What a command of the user's says is wrong, by its exit status; "" if nothing is."""
    line = [*(["ip", "netns", "exec", netns] if netns else []), *command]
    pipe = subprocess.PIPE
    try:
        # A group of its own: what it has started is to end with it.
        with subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, start_new_session=True
        ) as process:
            try:
                output, _none = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return f"{command[0]} took longer than {timeout} s"
    except OSError as exc:
        return f"{command[0]}: {exc.strerror}"
    if process.returncode == 0:
        return ""
    said = output.decode(errors="replace").strip().splitlines()
    return f"{command[0]} ended with {process.returncode}{': ' + said[-1] if said else ''}"


def _somebody_talks_to_it(instance: Instance, path: str) -> bool:
    """The server's end of a connection is listed in the namespace of who has connected: a shell of the host, mostly."""
    for netns in dict.fromkeys(("", instance.netns)):
        with namespaces.within(netns), open("/proc/thread-self/net/unix", errors="replace") as file:
            if any(words[-1] == path and words[5] == ACCEPTED for words in map(str.split, file)):
                return True
    return False
