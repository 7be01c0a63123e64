# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An instance while a task works on it: configuration, observed state, planned actions, result."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from .config import Config
from .instance import Instance
from .plan import Action, Observed

LOG_LINES = 15  # in an error message


@dataclass
class ManagedInstance:
    """C(config) is None if the file does not exist; C(digest) covers the files and the command line of a start."""

    instance: Instance
    config: Config | None
    caps: list[str]
    observed: Observed
    drop_in: str | None
    digest: str
    actions: list[Action] = field(default_factory=list)
    touched: bool = False  # an action was begun
    pid: int = 0
    error: str = ""

    @property
    def name(self) -> str:
        """The name of the instance."""
        return self.instance.name

    @property
    def starts(self) -> bool:
        """Whether an action starts a process."""
        return any(action.op in ("start", "restart") for action in self.actions)

    @property
    def has_clients(self) -> bool:
        """Whether a process is running that may have clients."""
        serves = self.config.serves_many if self.config else self.instance.role == "server"
        return bool(self.observed.pid) and serves

    def fail(self, reason: str, log: t.Sequence[str] = ()) -> None:
        """Set the error, with the last lines of the log."""
        # OpenVPN logs each command on the management socket, those of this module too
        lines = [line for line in log if "MANAGEMENT: " not in line]
        last = "".join(f"\n  {line}" for line in lines[-LOG_LINES:])
        self.error = f"{self.name}: {reason}" + (f". The last lines of its log:{last}" if last else "")
