# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A keeper in the namespace of a test's host, with its log and its CPU time."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import threading
import time
import typing as t
from pathlib import Path

from ansible_collections.clustered.openvpn.plugins.module_utils._state import files

from .world import MODULE_PYTHON, World

PROGRAM = """
import sys
from ansible_collections.clustered.openvpn.plugins.module_utils._boot import program
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel import turns
from ansible_collections.clustered.openvpn.plugins.module_utils._ring import paths
directory = sys.argv[1]
program.MANIFESTS = directory
turns.LOCK = directory + "/lock"
paths.keeper_directory = lambda name: directory + "/run"
sys.exit(program.main(sys.argv[2:]))
"""


class RunningKeeper:
    """The keeper of a desired state. A context manager."""

    def __init__(self, world: World, state: t.Mapping[str, t.Any], *, without: str = "") -> None:
        """without: a capability that it does not have, as in net_broadcast."""
        self._directory = tempfile.TemporaryDirectory()
        self.state = Path(self._directory.name, f"{state['name']}.json")
        self.state.write_text(files.text(files.state_of(state)))
        self.problem = Path(self._directory.name, "run", "problem")
        self.log: list[tuple[float, str]] = []  # each line and when it arrived
        self._enter, self._environment = list(world.enter), world._environment
        self._confined = ["setpriv", f"--bounding-set=-{without}"] if without else []
        self._name, self.host = state["name"], world.host

        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(f"{self._directory.name}/notify")
        self._environment = {**self._environment, "NOTIFY_SOCKET": f"{self._directory.name}/notify"}

    def __enter__(self) -> RunningKeeper:
        arguments = [MODULE_PYTHON, "-c", PROGRAM, self._directory.name, "keep", self._name]
        self.process = subprocess.Popen(
            [*self._enter, *self._confined, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        with self._notify:
            self._notify.settimeout(20)
            while b"READY=1" not in self._notify.recv(4096):
                pass
        self.quiet(0.5)
        return self

    def __exit__(self, *exc_info: t.Any) -> None:
        self.process.terminate()
        self.process.wait(10)
        self._reader.join(5)
        self._directory.cleanup()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append((time.monotonic(), line.rstrip("\n")))

    def run(self, verb: str) -> subprocess.CompletedProcess[str]:
        """Run another verb of the program with the same desired state."""
        return subprocess.run(
            [*self._enter, MODULE_PYTHON, "-c", PROGRAM, self._directory.name, verb, self._name],
            capture_output=True,
            text=True,
            check=False,
            env=self._environment,
        )

    def quiet(self, seconds: float, most: float = 20) -> None:
        """Wait until nothing has been logged for some seconds."""
        began = time.monotonic()
        while time.monotonic() - max([began, *(when for when, _line in self.log[-1:])]) < seconds:
            assert time.monotonic() - began < most, self.log
            assert self.process.poll() is None, self.log
            time.sleep(0.05)

    def repaired(self, since: float) -> float:
        """Wait for the end of the repairs of a damage done at this time: how long the last of them took."""
        end = time.monotonic() + 10
        while not any(when > since and line.startswith("repaired") for when, line in self.log):
            assert time.monotonic() < end, f"nothing was repaired: {self.log[-5:]}"
            time.sleep(0.02)
        self.quiet(0.7)
        return max(when for when, line in self.log if line.startswith("repaired")) - since

    def cpu(self) -> float:
        """Seconds of CPU time, with those of its children."""
        own = int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0]) / 1e9
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return own + (int(fields[13]) + int(fields[14])) / 100
