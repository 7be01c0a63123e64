# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A test network: a host, a switch and clients, each in a network namespace of this test run.

The host's namespace stands for the machine: modules run inside it by C(nsenter --net), so the machine's own network is
never changed. Names of namespaces are global, so every test run has its own prefix.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

# The directory in which pytest found the collection, for the modules that it starts.
COLLECTIONS = next(p for p in sys.path if p and Path(p, "ansible_collections/clustered/openvpn").is_dir())
MODULE_RUNNER = Path(__file__).parent / "run_module.py"

# The interpreter for modules. With MODULE_PYTHON=/usr/bin/python3 they use the distribution's pyroute2 instead of
# .venv's, as on a managed host.
MODULE_PYTHON = os.environ.get("MODULE_PYTHON") or sys.executable


def on_host(netns: str, places: t.Mapping[str, Path]) -> list[str]:
    """The prefix of a command that runs in a namespace as on a machine of its own, with that network in /sys.

    C(places): directories of the machine -> directories that replace them for the command. All others are shared, and
    so are the namespaces that it creates in /run/netns.
    """
    script = ["mount --make-rprivate /sys", "mount -t sysfs none /sys"]
    for place, own in places.items():
        # A slave first, or the machine would have the mount too. Not private: where /run is a shared mount, as with
        # systemd, each namespace is mounted at two levels, and a deletion has to reach both.
        script += [f"mkdir -p {place}", f'mount --make-slave "$(stat -c %m {place})"', f"mount --bind {own} {place}"]
    return [
        *("nsenter", f"--net=/run/netns/{netns}", "unshare", "--mount", "--propagation", "unchanged"),
        *("sh", "-c", " && ".join([*script, 'exec "$@"']), "sh"),
    ]


def sh(command: str, netns: str = "", *, check: bool = True, timeout: float = 30) -> str:
    """Run a shell command in a namespace; its output, stripped."""
    args = ["nsenter", f"--net=/run/netns/{netns}"] if netns else []
    done = subprocess.run([*args, "bash", "-c", command], capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"{command!r} in {netns!r} ended with {done.returncode}: {done.stderr}{done.stdout}")
    return done.stdout.strip()


@contextlib.contextmanager
def within(netns: str) -> t.Iterator[None]:
    """Enter a namespace; sockets that are opened inside belong to it."""
    from pyroute2 import netns as namespaces

    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    namespaces.setns(netns, flags=0)
    try:
        yield
    finally:
        namespaces.setns(home)
        os.close(home)


def module_environment(directory: Path) -> dict[str, str]:
    """The environment of a module: this collection, and ansible.module_utils, as Ansible sends them to a host."""
    paths = [COLLECTIONS]
    if sys.executable != MODULE_PYTHON:
        found = importlib.util.find_spec("ansible")
        assert found is not None
        assert found.origin is not None
        link = directory / "ansible"
        if not link.is_symlink():
            link.symlink_to(Path(found.origin).parent)
        paths.append(str(directory))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


class ModuleFailed(AssertionError):
    """A module failed."""


class World:
    """Namespaces with one prefix; all of them are removed at the end."""

    def __init__(self, prefix: str):
        self.prefix = prefix
        self.host = self.name("host")
        self.enter = ["nsenter", f"--net=/run/netns/{self.host}"]  # the prefix of a module's command
        self._ansible = tempfile.TemporaryDirectory()
        self._environment = module_environment(Path(self._ansible.name))

    def name(self, short: str) -> str:
        """The full name of a namespace."""
        return f"{self.prefix}-{short}"

    def netns(self, short: str) -> str:
        """Create a namespace with loopback up."""
        name = self.name(short)
        sh(f"ip netns add {name} && ip -n {name} link set lo up")
        return name

    def lan(self, clients: int = 0, subnet: str = "192.0.2", *, bridged: bool = False) -> list[str]:
        """A host with NIC nic0 (.2) on a switch, and clients c1… (.101…) on it; the clients' names.

        bridged: the NIC is a port of the host's bridge br-lan, which has the address.
        """
        switch = self.netns("switch")
        self.netns("host")
        sh(f"ip -n {switch} link add br0 type bridge mcast_snooping 0 && ip -n {switch} link set br0 up")
        self.plug(self.host, "nic0", f"{subnet}.2/24")
        if bridged:
            sh(
                f"ip -n {self.host} addr flush dev nic0"
                # A low MAC address: the bridge takes the lowest of its ports, which has to stay that of the NIC.
                f" && ip -n {self.host} link set nic0 address 02:00:00:00:aa:02"
                f" && ip -n {self.host} link add br-lan type bridge mcast_snooping 0"
                f" && ip -n {self.host} link set nic0 master br-lan && ip -n {self.host} link set br-lan up"
                f" && ip -n {self.host} addr add {subnet}.2/24 dev br-lan"
            )
        names = []
        for i in range(1, clients + 1):
            names.append(self.netns(f"c{i}"))
            self.plug(names[-1], "eth0", f"{subnet}.{100 + i}/24")
        return names

    def namespaces(self) -> list[str]:
        """The existing namespaces of this world, sorted."""
        names = sh("ip netns list | cut -d' ' -f1").split()
        return sorted(name for name in names if name.startswith(self.prefix + "-"))

    def plug(self, netns: str, interface: str, address: str) -> None:
        """Connect a namespace to the switch."""
        switch = self.name("switch")
        port = f"p{len(sh(f'ip -n {switch} -br link').splitlines())}"
        sh(
            f"ip -n {switch} link add {port} type veth peer name {interface} netns {netns}"
            f" && ip -n {switch} link set {port} master br0 up"
            f" && ip -n {netns} addr add {address} dev {interface} && ip -n {netns} link set {interface} up"
        )

    def module(self, module: str, /, *, check: bool = False, on: str = "", **args: t.Any) -> dict[str, t.Any]:
        """Run a module of the collection on the host, as Ansible does; its result. Raises ModuleFailed.

        on: the namespace of another host.
        """
        args.update(_ansible_check_mode=check, _ansible_diff=True)
        done = subprocess.run(
            [*(["nsenter", f"--net=/run/netns/{on}"] if on else self.enter), MODULE_PYTHON, str(MODULE_RUNNER), module],
            input=json.dumps(args),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=self._environment,
        )
        try:
            result = json.loads(done.stdout)
        except ValueError as exc:
            raise AssertionError(f"{module}: no JSON: {done.stdout}{done.stderr}") from exc
        if result.get("failed"):
            raise ModuleFailed(result["msg"])
        return result

    def remove(self) -> None:
        """Kill the processes in the namespaces of this world, and remove these."""
        for name in self.namespaces():
            for pid in sh(f"ip netns pids {name}", check=False).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), 9)
            sh(f"ip netns del {name}", check=False)
        self._ansible.cleanup()


def call(
    world: World, module: str, args: t.Mapping[str, t.Any], *, before: t.Sequence[str] = (), **env: str
) -> dict[str, t.Any]:
    """The result of a module on the host, failed or not. C(before): the prefix of the command."""
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{world.host}", *before, sys.executable, str(MODULE_RUNNER), module],
        input=json.dumps(args),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": COLLECTIONS, **env},
    )
    assert done.stdout.startswith("\n{") or done.stdout.startswith("{"), done.stdout + done.stderr
    return json.loads(done.stdout)


def call_here(module: str, args: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The result of a module on the machine itself, failed or not."""
    done = subprocess.run(
        [sys.executable, str(MODULE_RUNNER), module],
        input=json.dumps(args),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": COLLECTIONS},
    )
    try:
        return json.loads(done.stdout)
    except ValueError as exc:
        raise AssertionError(f"{module}: no JSON: {done.stdout}{done.stderr}") from exc


class Echo:
    """A UDP and TCP service in a namespace that answers with the namespace's name."""

    def __init__(self, netns: str, address: str, port: int):
        script = [sys.executable, str(Path(__file__).parent / "echo.py"), address, str(port), netns]
        self.process = subprocess.Popen(["nsenter", f"--net=/run/netns/{netns}", *script], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def stop(self) -> None:
        """Kill the service."""
        self.process.kill()
        self.process.wait()


def ask_udp(netns: str, address: str, port: int, *, size: int = 0, timeout: float = 5.0, source: str = "") -> list[str]:
    """The names of all services that answer a datagram. After the first answer, waits 50 ms for others."""
    with within(netns), socket.socket(_family(address), socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        sock.bind((source, 0))
        sock.sendto(b"?".ljust(size or 1, b"."), (address, port))
        answers = []
        with contextlib.suppress(TimeoutError, ConnectionRefusedError):
            while True:
                data = sock.recv(65536)
                assert len(data) >= size, "an answer is as long as its question"
                answers.append(data.rstrip(b".").decode())
                sock.settimeout(0.05)
    return answers


def ask_tcp(netns: str, address: str, port: int, *, timeout: float = 5.0, source: str = "") -> str | None:
    """The name of the service that accepts a connection, "" if it is refused, None on a timeout."""
    with within(netns), socket.socket(_family(address)) as sock:
        sock.settimeout(timeout)
        sock.bind((source, 0))
        try:
            sock.connect((address, port))
            sock.sendall(b"?")
            return sock.recv(65536).decode()
        except ConnectionRefusedError:
            return ""
        except OSError:
            return None


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
