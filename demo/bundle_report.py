# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the demo's bundle carries: one connection and four, over 1, 2 and 4 tunnels; and one of them frozen."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import typing as t
from pathlib import Path

from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.kernel import Kernel

ENDS = {"left": "demo-l", "right": "demo-r"}
TO = "10.70.2.9"
WARM, SECONDS = 1.5, 4.0
FLOWS = (1, 4)
VICTIM = 2
LATE = 0.5  # seconds

within = Kernel().within


def parameters(end: str) -> dict[str, t.Any]:
    """Of the module, as the role laid them out."""
    manifest = json.loads(Path(f"/etc/clustered-openvpn/{ENDS[end]}.json").read_text())
    return {**manifest["bundles"][0], "supervisor": "process"}


def arrange(tunnels: int, spread: str) -> None:
    """Have both ends use so many of the tunnels, by the module that the role uses."""
    running = []
    for end in ENDS:
        bundle = {**parameters(end), "spread": spread}
        bundle["tunnels"] = [{**one, "weight": int(one["number"] <= tunnels)} for one in bundle["tunnels"]]
        command = ["ansible", "-i", "inventories/demo_bundle", end, "-m", "clustered.openvpn.tunnel_bundle", "-a"]
        running.append(subprocess.Popen([*command, json.dumps(bundle)], stdout=subprocess.PIPE, text=True))
    for process in running:
        said = process.communicate(timeout=120)[0]
        if process.returncode:
            raise SystemExit(said)
    wait_live(list(range(1, tunnels + 1)))


def live(end: str) -> list[int]:
    """The tunnels that are in the spread, as its rule says."""
    table = f"clustered_openvpn_{ENDS[end]}.bundle"
    command = ["ip", "netns", "exec", f"demo-{end}", "nft", "list", "chain", "inet", table, "spread"]
    words = re.findall(r"live: ([\d -]*)#", subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    ranges = [word.split("-") for word in words[0].split()]
    return [number for r in ranges for number in range(int(r[0]), int(r[-1]) + 1)]


def wait_live(wanted: list[int], seconds: float = 20) -> float:
    """Until both ends use these; how long it took."""
    start = time.monotonic()
    while not all(live(end) == wanted for end in ENDS):
        if time.monotonic() - start > seconds:
            raise SystemExit(f"wanted tunnels {wanted}, but there are {[live(end) for end in ENDS]}")
        time.sleep(0.02)
    return time.monotonic() - start


def sent() -> list[int]:
    """Packets that the left end gave to each tunnel."""
    with within("demo-left"):
        lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
    counts = {line.partition(":")[0].strip(): line.partition(":")[2].split() for line in lines}
    return [int(counts[one["device"]][9]) for one in parameters("left")["tunnels"]]


def throughput(flows: int) -> float:
    """Mbit/s of so many TCP connections together, from a host on the left to one on the right."""
    received, over = [0] * flows, threading.Event()
    with within("demo-site-right"):
        listener = socket.create_server((TO, 0))
    with within("demo-site-left"):
        senders = [socket.create_connection(listener.getsockname(), 20) for _flow in range(flows)]
    receivers = [listener.accept()[0] for _flow in range(flows)]

    def send(sock: socket.socket) -> None:
        block = bytes(1 << 16)
        with contextlib.suppress(OSError):
            while not over.is_set():
                sock.sendall(block)

    def receive(i: int, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := sock.recv(1 << 18):
                received[i] += len(data)

    threads = [threading.Thread(target=send, args=(sock,)) for sock in senders]
    threads += [threading.Thread(target=receive, args=item) for item in enumerate(receivers)]
    for thread in threads:
        thread.start()
    time.sleep(WARM)
    start, before = time.monotonic(), sum(received)
    time.sleep(SECONDS)
    rate = (sum(received) - before) * 8e-6 / (time.monotonic() - start)
    over.set()
    for sock in (*senders, *receivers):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()
    for thread in threads:
        thread.join()
    listener.close()
    return rate


def table() -> None:
    """All of them."""
    with within("demo-site-left"):
        congestion = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    print(f"\nTCP through the bundle, Mbit/s (congestion control: {congestion})\n")
    print("spread      tunnels  one flow  four flows  shares of the tunnels with four flows")
    for spread in ("per_packet", "per_flow"):
        for tunnels in (1, 2, 4):
            arrange(tunnels, spread)
            rates = []
            before = sent()
            for flows in FLOWS:
                before = sent()
                rates.append(throughput(flows))
            given = [now - then for now, then in zip(sent(), before)]
            shares = " ".join(f"{100 * one / sum(given):4.0f} %" for one in given)
            print(f"{spread:11} {tunnels:7} {rates[0]:9.1f} {rates[1]:11.1f}  {shares}", flush=True)


def frozen() -> None:
    """A process is stopped while datagrams flow: which of them are lost, and when the tunnel is back."""
    arrange(4, "per_packet")
    with within("demo-site-right"):
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sink.bind((TO, 0))
    sink.settimeout(0.5)
    arrived: dict[int, float] = {}
    times: list[float] = []
    over = threading.Event()

    def receive() -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                arrived[int.from_bytes(sink.recv(64), "big")] = time.monotonic()

    def send() -> None:
        with within("demo-site-left"):
            source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        while not over.is_set():
            source.sendto(len(times).to_bytes(8, "big"), sink.getsockname())
            times.append(time.monotonic())
            time.sleep(0.002)
        source.close()

    threads = [threading.Thread(target=one) for one in (receive, send)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    device = f"{ENDS['right']}-{VICTIM}"
    pid = json.loads(Path(f"/run/clustered-openvpn/{device}.json").read_text())["pid"]
    os.kill(pid, signal.SIGSTOP)
    stopped = time.monotonic()
    try:
        left = wait_live([1, 3, 4])
        before = sent()[VICTIM - 1]
        time.sleep(2)
        probes = sent()[VICTIM - 1] - before
    finally:
        os.kill(pid, signal.SIGCONT)
    back = wait_live([1, 2, 3, 4])
    time.sleep(1)
    over.set()
    for thread in threads:
        thread.join()
    sink.close()
    # The frozen process lets go later what it had: too late counts as lost.
    taken = [arrived.get(number, float("inf")) - moment for number, moment in enumerate(times)]
    lost = [moment - stopped for moment, seconds in zip(times, taken) if seconds > LATE]
    last = max(lost, default=0.0)
    print(f"\nThe far process of tunnel {VICTIM} is frozen (SIGSTOP), with 500 datagrams a second on the way:")
    print(f"  both ends use the other three after {left:.2f} s")
    print(
        f"  {len(lost)} of {len(times)} datagrams were lost, or late; the last one was sent {last:.2f} s after the stop"
    )
    print(f"  in the 2 s after that, {probes} packets were sent into the tunnel, which are the probes")
    print(f"  it goes on (SIGCONT), and is used again after {back:.2f} s")


table()
frozen()
