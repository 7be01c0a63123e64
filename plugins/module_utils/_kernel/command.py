# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running commands: the only way in which the collection starts a program and waits for its output."""

from __future__ import annotations

import shutil
import subprocess
import typing as t

# program -> the Debian package that contains it
PACKAGES = {
    "ip": "iproute2",
    "iptables-legacy-restore": "iptables",
    "iptables-legacy-save": "iptables",
    "iptables-nft-restore": "iptables",
    "iptables-nft-save": "iptables",
    "modprobe": "kmod",
    "nft": "nftables",
    "nsenter": "util-linux",
    "openvpn": "openvpn",
    "setpriv": "util-linux",
    "ss": "iproute2",
    "tc": "iproute2",
}


class CommandError(OSError):
    """A command could not be run, failed, or timed out.

    The message is the command and the reason; C(reason) is the program's own message alone. C(missing): the program is
    not installed. An OSError, so that callers handle it like the other ways in which the system refuses a change.
    """

    def __init__(self, argv: t.Sequence[str], reason: str, *, missing: bool = False) -> None:
        super().__init__(f"{' '.join(argv)}: {reason}")
        self.argv = tuple(argv)
        self.reason = reason
        self.missing = missing


class Process:
    """A command that has been started. C(output) waits for it.

    It belongs to the network namespace that the caller is in at the start; the caller may leave it afterwards.
    Without C(input), standard input is /dev/null. C(env) replaces the environment.
    """

    def __init__(self, argv: t.Sequence[str], input: str = "", *, env: t.Mapping[str, str] | None = None) -> None:
        self._argv = argv
        self._input = input or None
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE if input else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                env=env,
            )
        except FileNotFoundError as exc:
            raise CommandError(argv, missing(argv[0]), missing=True) from exc
        except OSError as exc:
            raise CommandError(argv, exc.strerror or str(exc)) from exc

    def output(self, timeout: float | None = None) -> str:
        """Standard output. Raises CommandError when the exit status is not 0, or after C(timeout) seconds."""
        try:
            out, err = self._process.communicate(self._input, timeout)
        except subprocess.TimeoutExpired as exc:
            self.kill()
            raise CommandError(self._argv, f"timed out after {timeout:g} s") from exc
        except BaseException:  # as subprocess.run() does: no process is left behind
            self.kill()
            raise
        if self._process.returncode:
            reason = err.strip() or out.strip() or f"exit status {self._process.returncode}"
            raise CommandError(self._argv, reason)
        return out

    def kill(self) -> None:
        """End the command; its output is lost."""
        self._process.kill()
        self._process.communicate()


def run(
    argv: t.Sequence[str],
    input: str = "",
    *,
    timeout: float | None = None,
    env: t.Mapping[str, str] | None = None,
) -> str:
    """Run a command and return its standard output. Raises CommandError."""
    return Process(argv, input, env=env).output(timeout)


def require(program: str) -> None:
    """Raise CommandError if a program is not installed, before something else is done that needs it later."""
    if shutil.which(program) is None:
        raise CommandError([program], missing(program), missing=True)


def missing(program: str) -> str:
    """The error text for a program that is not installed, with the package to install."""
    package = PACKAGES.get(program)
    return f"the program {program!r} is missing" + (f": install the package {package}" if package else "")
