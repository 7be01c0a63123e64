# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs of the site playbook that end with SIGKILL, on the controller or on the host: one further run repairs it.

KILLS=20 says how many, SEED=… repeats a sequence of moments.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
from integration.served import State, differences, differences_at_last

from .cluster import INSTANCES, Cluster, say

KILLS = int(os.environ.get("KILLS", "20"))
SEED = os.environ.get("SEED") or str(time.time_ns())

# What the host is to become, in turn.
WANTED: dict[str, dict[str, t.Any]] = {
    "two": {"netns_cluster_size": 2},
    "three": {"netns_cluster_size": 3, "netns_cluster_distribution": "flood", "openvpn_server_keepalive_timeout": 70},
}


pytestmark = pytest.mark.soak


@pytest.fixture
def cluster(tmp_path: Path) -> t.Iterator[Cluster]:
    """The first of the two."""
    made = Cluster("killed", tmp_path, 1, netns_cluster_instances=INSTANCES[:1])
    try:
        made.play(**WANTED["two"])
        yield made
    finally:
        made.remove()


def whole_state(cluster: Cluster) -> State:
    """Kernel, files, units."""
    files = (
        "find /etc/clustered-openvpn /etc/openvpn /etc/systemd/system /usr/local /run/clustered-openvpn"
        " /var/lib/clustered-openvpn ! -type d ! -name status -printf '%p %M %u:%g %l\\n' | sort;"
        # The order in which they were made stays in the files' times, and nowhere else.
        "find /etc/clustered-openvpn /etc/openvpn /etc/systemd/system /usr/local -type f -exec sha256sum {} + | sort"
    )
    units = (
        "systemctl list-units --all --plain --no-legend 'openvpn-*' 'clustered-*' |"
        " awk '{ print $1, $2, $3, $4 }' | sort;"
        "systemctl list-unit-files --no-legend 'openvpn-*' 'clustered-*' | sort"
    )
    return {
        **cluster.state(),
        "files": cluster.run(files).splitlines(),
        "units": cluster.run(units).splitlines(),
    }


def kill_module(cluster: Cluster) -> bool:
    """End the module that runs on the host, if there is one."""
    top = cluster.lab.host("h1").cgroup.unified
    for procs in top.rglob("cgroup.procs"):
        try:
            found = [int(pid) for pid in procs.read_text().split()]
        except OSError:
            continue
        for pid in found:
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if words[0] == b"/usr/bin/python3" and words[1:] == [b""]:  # it reads the module from its input
                    os.kill(pid, signal.SIGKILL)
                    return True
            except OSError:
                continue
    return False


def killed(cluster: Cluster, run: subprocess.Popen[str], seconds: float, on_host: bool) -> bool:
    """Let it run for a while, then kill it; whether it still ran."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and run.poll() is None:
        time.sleep(0.01)
    hit = False
    if on_host:
        while run.poll() is None and not hit:  # between two modules there is none
            hit = kill_module(cluster)
            time.sleep(0.01)
    elif run.poll() is None:
        cluster.controller().kill()  # the whole of it: workers have a session of their own
        hit = True
    run.communicate(timeout=120)
    # A module, or the whole run, may have said all that it had to say, and only been about to end.
    return hit and run.returncode != 0


def test_a_run_killed_at_any_moment_is_repaired_by_the_next(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    states, durations = {"two": whole_state(cluster)}, {}
    for wanted in ("three", "two"):
        start = time.monotonic()
        cluster.play(whole=False, **WANTED[wanted])
        durations[wanted] = time.monotonic() - start
        assert not differences_at_last(
            lambda w=wanted: states.setdefault(w, whole_state(cluster)), lambda: whole_state(cluster)
        )

    dice = random.Random(SEED)
    now, hits, too_late, begun = "two", {True: 0, False: 0}, 0, time.monotonic()
    while sum(hits.values()) < KILLS:
        wanted = next(name for name in WANTED if name != now)
        on_host = hits[True] < hits[False]
        delay = dice.uniform(1, durations[wanted])
        what = f"SEED={SEED}: kill {hits}: {now} -> {wanted}, after {delay:.2f} s, on the host: {on_host}"
        if killed(cluster, cluster.begin(whole=False, **WANTED[wanted]), delay, on_host):
            hits[on_host] += 1
        else:
            too_late += 1
            assert too_late <= KILLS + 5, "the moments are to lie within a run"
        cluster.play(whole=False, **WANTED[wanted])
        found = differences_at_last(lambda w=wanted: states[w], lambda: whole_state(cluster), seconds=10)
        assert not found, f"{what}: {found}"
        now = wanted
    assert not differences(states[now], whole_state(cluster))
    say(
        capsys,
        f"{hits[False]} runs killed on the controller, {hits[True]} on the host, {too_late} were faster:"
        f" {time.monotonic() - begun:.0f} s; a run takes {min(durations.values()):.0f} s",
    )
