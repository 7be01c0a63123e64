# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The watch of a bundle as a daemon, for hosts without systemd. It is identified by the lock that it holds."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import sys
import time
import traceback
import typing as t
from dataclasses import replace

from .._openvpn.instance import LOG, RUN
from . import watch
from .bundle import Bundle

TIMEOUT = 10  # seconds for the process to start or to end


def path_of(name: str) -> str:
    """The file that the watch locks; it contains the process id and the digest of the bundle."""
    return f"{RUN}/{name}.watch"


def digest(bundle: Bundle) -> str:
    """Identifies the parameters that a watch runs with."""
    return hashlib.sha256(repr(replace(bundle, former_addresses=())).encode()).hexdigest()


def running(name: str) -> dict[str, t.Any]:
    """C(pid) and C(digest) of the running watch; empty if none runs."""
    with contextlib.suppress(OSError, ValueError), open(path_of(name), encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            found = json.load(file)
            return found if isinstance(found, dict) else {}
    return {}


def start(bundle: Bundle) -> None:
    """Start the watch, and wait until it runs. Raises OSError."""
    os.makedirs(RUN, mode=0o755, exist_ok=True)
    os.makedirs(LOG, mode=0o755, exist_ok=True)
    with open(path_of(bundle.name), "a+", encoding="utf-8") as file:
        # The watch inherits the lock: if it took the lock itself, a concurrent running() could get in its way.
        _wait(lambda: _lock(file), f"the watch of {bundle.name} runs already")
        child = os.fork()
        if child == 0:
            try:
                os.setsid()
                if os.fork() == 0:
                    _main(bundle, file)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    _wait(lambda: running(bundle.name).get("digest") == digest(bundle), f"the watch of {bundle.name} does not start")


def stop(name: str) -> None:
    """End the watch, and wait for its end. Raises OSError."""
    pid = running(name).get("pid")
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        _wait(lambda: not running(name), f"the watch of {name}, process {pid}, does not end")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path_of(name))


def stop_outdated(bundle: Bundle, desired: bool, *, dry: bool) -> list[str]:
    """End a watch that should not run, or runs with other parameters: it would undo changes of the table.

    Returns the equivalent commands, and does nothing else if C(dry).
    """
    watch_now = running(bundle.name)
    if not watch_now or (desired and watch_now.get("digest") == digest(bundle)):
        return []
    if not dry:
        stop(bundle.name)
    return [f"kill {watch_now.get('pid')}  # the watch of {bundle.name}"]


def ensure_running(bundle: Bundle, *, dry: bool) -> list[str]:
    """Start the watch unless it runs with these parameters. As stop_outdated()."""
    if running(bundle.name).get("digest") == digest(bundle):
        return []
    if not dry:
        start(bundle)
    return [f"clustered-openvpn watch {bundle.name} &"]


def _lock(file: t.TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(condition: t.Callable[[], bool], failure: str) -> None:
    until = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > until:
            raise OSError(f"{failure}; see {LOG}/*.watch.log")
        time.sleep(0.02)


def _main(bundle: Bundle, file: t.TextIO) -> None:
    os.chdir("/")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(f"{LOG}/{bundle.name}.watch.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o640)
    for descriptor, standard in ((null, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, standard)
    os.closerange(3, file.fileno())
    os.closerange(file.fileno() + 1, 1024)
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", closefd=False)
    file.truncate(0)
    json.dump({"pid": os.getpid(), "digest": digest(bundle)}, file)
    file.flush()
    try:
        watch.watch(bundle, lambda: False, _log)
    except Exception:
        _log(traceback.format_exc())


def _log(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%F %T')} {text}\n")
