# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several Debian hosts with systemd, and clients, on one machine and a network of their own."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import typing as t
from pathlib import Path

from . import rootfs
from .host import Host
from .legacy_host import LegacyHost
from .network import LAN, SWITCH, Network
from .system import Cgroup, LabError, adopt_orphans, reap, run

STATE = Path("/run/clustered-openvpn-lab")
LOGS = rootfs.CACHE / "logs"
MAX_HOSTS, MAX_CLIENTS = 19, 99
FIRST_CLIENT = 101


class Lab:
    """A lab, there or not; everything that is made for it carries its name."""

    def __init__(self, name: str):
        if not re.fullmatch("[a-z][a-z0-9_]{0,31}", name):
            raise LabError(f"name {name!r}: a small letter, and up to 31 of a-z, 0-9 and _, please")
        self.name = name
        self.directory = STATE / name
        self.network = Network(name)
        self._cgroup = Cgroup(f"lab-{name}")
        self._logs = LOGS / name

    # --- settings and inventory -----------------------------------------------------------------------------------

    def settings(self) -> dict[str, t.Any]:
        """The settings of `up`."""
        try:
            return json.loads((self.directory / "lab.json").read_text())
        except FileNotFoundError as exc:
            raise LabError(f"there is no lab {self.name}: `lab up {self.name}` makes it") from exc

    def hosts(self) -> list[Host]:
        """Its hosts, in their order."""
        return [self._host(i) for i in range(1, self.settings()["hosts"] + 1)]

    def host(self, name: str) -> Host:
        """One of them."""
        found = [host for host in self.hosts() if host.name == name]
        if not found:
            raise LabError(f"lab {self.name} has no host {name}, but {', '.join(host.name for host in self.hosts())}")
        return found[0]

    def inventory(self) -> dict[str, t.Any]:
        """An inventory for Ansible. The machine has no route to the hosts: ssh goes by way of the switch."""
        hosts = {}
        for host in self.hosts():
            ssh = {
                "ProxyCommand": f'"ip netns exec {self.network.netns(SWITCH)} nc %h %p"',
                "UserKnownHostsFile": self.directory / "known_hosts",
                # Hosts of two labs have the same addresses: with Ansible's own paths they would share connections.
                "ControlPath": self.directory / f"{host.name}.ssh",
                "IdentitiesOnly": "yes",
                "ConnectTimeout": 10,
                "ServerAliveInterval": 5,
                "ServerAliveCountMax": 6,
            }
            hosts[host.name] = {
                "ansible_host": host.address,
                "ansible_ssh_common_args": " ".join(f"-o {key}={value}" for key, value in ssh.items()),
            }
        shared = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.directory / "key"),
            "ansible_python_interpreter": "/usr/bin/python3",
            "lab_name": self.name,
            "lab_clients": [
                {"name": name, "netns": self.network.netns(name), "address": f"{LAN}.{number}"}
                for name, number in self._clients(self.settings()["clients"])
            ],
        }
        return {"all": {"vars": shared, "children": {"clustered_openvpn": {"hosts": hosts}}}}

    # --- up and down ----------------------------------------------------------------------------------------------

    def up(self, hosts: int, clients: int, suite: str, legacy: int = 0) -> None:
        """Make it and wait until its hosts have booted; when that fails, or is interrupted, nothing of it stays."""
        root = rootfs.ensure(suite)
        STATE.mkdir(mode=0o755, exist_ok=True)
        try:
            self.directory.mkdir(mode=0o755)
        except FileExistsError as exc:
            raise LabError(f"there is a lab {self.name} already: `lab down {self.name}` removes it") from exc
        adopt_orphans()
        try:
            self._make(root, {"hosts": hosts, "clients": clients, "legacy": legacy})
        except BaseException as exc:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            failed = isinstance(exc, LabError)
            try:
                if failed:
                    self.save_logs(self._logs)
            finally:
                self.down(keep_logs=failed)
                reap()
            raise

    def _make(self, root: Path, settings: dict[str, t.Any]) -> None:
        (self.directory / "lab.json").write_text(json.dumps({**settings, "root": str(root)}))
        shutil.rmtree(self._logs, ignore_errors=True)
        self._logs.mkdir(parents=True)
        self._cgroup.make()
        for name in ("keepers", "commands"):
            Cgroup(f"lab-{self.name}/{name}").make()
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab-{self.name}", "-f", self.directory / "key")
        host_key = (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
        (self.directory / "known_hosts").write_text(f"{LAN}.* {host_key}")
        self.network.make_switch()
        for name, number in self._clients(settings["clients"]):
            self.network.plug(name, number)
        made = self.hosts()
        for host in made:
            host.make((self.directory / "key.pub").read_text())
            host.start()
        for host in made:
            host.wait_until_running()

    def down(self, *, keep_logs: bool = False) -> None:
        """Remove all parts that exist."""
        self._cgroup.remove()
        self.network.remove()
        shutil.rmtree(self.directory, ignore_errors=True)
        if not keep_logs:
            shutil.rmtree(self._logs, ignore_errors=True)
        for directory in (STATE, LOGS):
            with contextlib.suppress(OSError):
                directory.rmdir()  # the last one does

    # --- in it ----------------------------------------------------------------------------------------------------

    def execute(self, name: str, command: list[str]) -> t.NoReturn:
        """Become a command in a host, in a client's namespace or in the switch's."""
        others = [SWITCH, *(client for client, _number in self._clients(self.settings()["clients"]))]
        if name in others:
            line = ["ip", "netns", "exec", self.network.netns(name), *command]
        else:
            line = self.host(name).command(*command)
        Cgroup(f"lab-{self.name}/commands").join()
        os.execvp(line[0], line)

    def save_logs(self, directory: Path) -> None:
        """Copy the logs of all hosts."""
        directory.mkdir(parents=True, exist_ok=True)
        for host in self.hosts():
            host.save_logs(directory)

    def _host(self, number: int) -> Host:
        name = f"h{number}"
        kind = LegacyHost if number <= self.settings()["legacy"] else Host
        return kind(self.name, name, self.directory / name, self._logs / f"{name}.console.log", f"lab-{self.name}")

    @staticmethod
    def _clients(number: int) -> list[tuple[str, int]]:
        return [(f"c{i + 1}", FIRST_CLIENT + i) for i in range(number)]


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupted(number: int, _frame: object) -> t.NoReturn:
    """End as a program that a signal has ended; unfinished steps are undone on the way."""
    raise SystemExit(128 + number)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="lab", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, does: str, *positional: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=does, description=does)
        for argument in positional:
            made.add_argument(argument.lower(), metavar=argument)
        return made

    suite: dict[str, t.Any] = {"choices": rootfs.SUITES, "default": rootfs.SUITES[0], "help": "the Debian of the hosts"}
    root = verb("root", "build the root file system of the hosts, unless it exists; print its path")
    root.add_argument("--suite", **suite)
    root.add_argument("--controller", action="store_true", help="that of a controller instead, for `make trixie`")
    up = verb("up", "make a lab", "NAME")
    up.add_argument("--hosts", type=int, default=1, choices=range(1, MAX_HOSTS + 1), metavar="N")
    up.add_argument("--clients", type=int, default=0, choices=range(MAX_CLIENTS + 1), metavar="M")
    up.add_argument("--suite", **suite)
    legacy: dict[str, t.Any] = {"type": int, "default": 0, "metavar": "L", "choices": range(MAX_HOSTS + 1)}
    up.add_argument("--legacy", **legacy, help="the first L hosts have a kernel with CLUSTERIP, and no nftables")
    verb("exec", "run a command in a host (h1), a client (c1) or the switch", "NAME", "WHERE").add_argument(
        "command", nargs=argparse.REMAINDER, metavar="-- COMMAND"
    )
    for name, does in {
        "reboot": "reboot a host, with the network of a host that has just been switched on",
        "poweroff": "shut a host down; `reboot` switches it on again",
    }.items():
        verb(name, does, "NAME", "HOST").add_argument("--hard", action="store_true", help="as by a loss of power")
    verb("cut", "pull a host's cable", "NAME", "HOST")
    verb("mend", "put a host's cable back", "NAME", "HOST")
    verb("inventory", "print an inventory for Ansible", "NAME")
    verb("logs", "copy console, journal and log files of the hosts", "NAME", "DIRECTORY")
    verb("down", "remove a lab, or its remains", "NAME")
    verbs.add_parser("keep").add_argument("name")  # a host's keeper: see host.py
    verbs.choices["keep"].add_argument("host")
    return parser.parse_args()


def main() -> None:
    """Run the command line."""
    given = arguments()
    if os.geteuid() != 0:
        raise LabError("namespaces and containers need root")
    os.umask(0o022)  # the hosts' files are made here
    for number in SIGNALS:
        signal.signal(number, interrupted)
    if given.verb == "root":
        print(rootfs.ensure(given.suite, rootfs.CONTROLLER if given.controller else rootfs.HOST))
        return
    lab = Lab(given.name)
    if given.verb == "up":
        lab.up(given.hosts, given.clients, given.suite, given.legacy)
    elif given.verb == "down":
        lab.down()
    elif given.verb == "inventory":
        print(json.dumps(lab.inventory(), indent=2))
    elif given.verb == "logs":
        lab.save_logs(Path(given.directory))
    elif given.verb == "exec":
        command = given.command[1:] if given.command[:1] == ["--"] else given.command
        if not command:
            raise LabError("exec needs a command: lab exec NAME WHERE -- COMMAND")
        lab.execute(given.where, command)
    else:
        host = lab.host(given.host)
        if given.verb == "keep":
            host.keep(Path(lab.settings()["root"]))
        elif given.verb == "reboot":
            host.reboot(hard=given.hard)
        elif given.verb == "poweroff":
            host.switch_off(hard=given.hard)
        elif given.verb == "cut":
            host.cut()
        elif given.verb == "mend":
            host.mend()


def run_command_line() -> None:
    """The same as a program: an error of the lab is one line, and the exit status 1."""
    try:
        main()
    except LabError as error:
        sys.exit(f"lab: {error}")
