# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where systemd is not running: the watch of a bundle as a process of its own, known by the lock that it holds."""

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

SECONDS = 10  # for a process to start, or to end


def path_of(name: str) -> str:
    """The file that is locked, and says which process has done so, and what it watches."""
    return f"{RUN}/{name}.watch"


def digest(bundle: Bundle) -> str:
    """What is watched, and how."""
    return hashlib.sha256(repr(replace(bundle, former_addresses=())).encode()).hexdigest()


def running(name: str) -> dict[str, t.Any]:
    """C(pid) and C(digest) of the watch; empty if there is none."""
    with contextlib.suppress(OSError, ValueError), open(path_of(name), encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            found = json.load(file)
            return found if isinstance(found, dict) else {}
    return {}


def start(bundle: Bundle) -> None:
    """Start it, and wait until it runs."""
    os.makedirs(RUN, mode=0o755, exist_ok=True)
    os.makedirs(LOG, mode=0o755, exist_ok=True)
    with open(path_of(bundle.name), "a+", encoding="utf-8") as file:
        # Here already, and the watch inherits it: it would not get the lock while somebody looks who has it.
        _wait(lambda: _lock(file), f"another process watches {bundle.name}")
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
    """End it, and wait until it has ended."""
    pid = running(name).get("pid")
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        _wait(lambda: not running(name), f"the watch of {name}, process {pid}, does not end")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path_of(name))


def _lock(file: t.TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(condition: t.Callable[[], bool], complaint: str) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > until:
            raise OSError(f"{complaint}; its log is {LOG}/*.watch.log")
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
        watch.watch(bundle, lambda: False, _say)
    except Exception:
        _say(traceback.format_exc())


def _say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%F %T')} {text}\n")
