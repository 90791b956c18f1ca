"""A LAN of network namespaces: one for each machine, one for the switch; nothing is added to the host's own network.

::

    machine a: eth0 ----- a :  :  : b ----- eth0 :machine b        veth pairs, or TAP devices with a slow cable between
                          switch: bridge br0, faults as nftables rules on what it forwards

Names are unique, addresses are not: no namespace sees any other network. Needs root (or a user namespace with its own
mounts), iproute2 and nftables; delay needs /dev/net/tun.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lan.lan import Delay, Lan

PREFIX = "dsdp-lan"
PORT = 7171
"""of every server: each machine has its ports to itself"""
SUBNET = "10.77.0"
CHAIN = ("bridge", "faults", "pass")
CABLE = "tests.lan.cable"


class LanError(RuntimeError):
    """The system refused to build or change the network; the text is what it said."""


def run(*command: str, text: str | None = None) -> str:
    """Run a tool of the system. Raises :class:`LanError` with its words."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    except OSError as error:
        raise LanError(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        raise LanError(f"{' '.join(command)}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout


def fault() -> str:
    """Empty if a LAN can be built here, else why not: found out by building the smallest one."""
    missing = [tool for tool in ("ip", "nft") if shutil.which(tool) is None]
    if missing:
        return f"{' and '.join(missing)} not installed (.ci/install does it, as root)"
    try:
        with open_namespaces(("a", "b"), None) as lan:
            lan.cut("a", "b")
    except LanError as error:
        return str(error)
    return ""


class NamespaceLan(Lan):
    kind = "namespaces"

    def __init__(self, machines: Sequence[str], name: str) -> None:
        super().__init__(machines)
        self.name = name
        self.switch = f"{name}-switch"
        self._cuts: set[tuple[str, str]] = set()
        self._loss = 0.0

    def namespace(self, machine: str) -> str:
        return f"{self.name}-{machine}"

    def ip(self, machine: str) -> str:
        return f"{SUBNET}.{self.machines.index(machine) + 1}"

    # ------------------------------------------------------------ processes

    def command(self, machine: str) -> list[str]:
        return ["ip", "netns", "exec", self.namespace(machine)]

    def listen(self, machine: str) -> tuple[str, int]:
        return self.ip(machine), PORT

    def listening(self, machine: str, port: int) -> None:
        assert port == PORT

    def address(self, source: str, target: str) -> str:
        return f"{self.ip(target)}:{PORT}"

    # ------------------------------------------------------------ faults

    def cut(self, source: str, target: str) -> None:
        self._cuts.add((source, target))
        self._apply()

    def unplug(self, machine: str) -> None:
        run("ip", "-n", self.switch, "link", "set", "dev", machine, "down")

    def plug(self, machine: str) -> None:
        run("ip", "-n", self.switch, "link", "set", "dev", machine, "up")

    def lose(self, share: float) -> None:
        self._loss = share
        self._apply()

    def lost(self) -> int:
        listing = json.loads(run("ip", "netns", "exec", self.switch, "nft", "-j", "list", "chain", *CHAIN))
        parts = [part for item in listing["nftables"] for part in item.get("rule", {}).get("expr", ())]
        return sum(part["counter"]["packets"] for part in parts if "counter" in part)

    def heal(self) -> None:
        self._cuts.clear()
        self._loss = 0.0
        self._apply()
        for machine in self.machines:
            self.plug(machine)

    def _apply(self) -> None:
        """All rules at once: nft replaces them in one transaction."""
        rules = [f'iifname "{source}" oifname "{target}" drop' for source, target in sorted(self._cuts)]
        if self._loss:
            rules.append(f"numgen random mod 10000 < {round(10000 * self._loss)} counter drop")
        script = "table bridge faults { chain pass { type filter hook forward priority 0; }; }\n"
        script += "flush chain bridge faults pass\n"
        script += "".join(f"add rule bridge faults pass {rule}\n" for rule in rules)
        run("ip", "netns", "exec", self.switch, "nft", "-f", "-", text=script)

    # ------------------------------------------------------------ building

    def build(self, stack: contextlib.ExitStack, delay: Delay | None) -> None:
        for namespace in (self.switch, *map(self.namespace, self.machines)):
            stack.callback(_remove, namespace)
            run("ip", "netns", "add", namespace)
            run("ip", "-n", namespace, "link", "set", "lo", "up")
        run("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        run("ip", "-n", self.switch, "link", "set", "br0", "up")
        if delay is None:
            for machine in self.machines:
                pair = ("link", "add", "name", machine, "type", "veth", "peer", "name", "eth0")
                run("ip", "-n", self.switch, *pair, "netns", self.namespace(machine))
        else:
            self._lay_cables(stack, delay)
        for machine in self.machines:
            inside = self.namespace(machine)
            run("ip", "-n", inside, "address", "add", f"{self.ip(machine)}/24", "dev", "eth0")
            run("ip", "-n", inside, "link", "set", "eth0", "up")
            run("ip", "-n", self.switch, "link", "set", "dev", machine, "master", "br0")
            run("ip", "-n", self.switch, "link", "set", "dev", machine, "up")
        self._apply()

    def _lay_cables(self, stack: contextlib.ExitStack, delay: Delay) -> None:
        """Each packet crosses two cables, so each has half of the delay."""
        document = {"ports": self.machines, "seconds": delay.seconds / 2, "jitter": delay.jitter / 2}
        command = ["ip", "netns", "exec", self.switch, sys.executable, "-m", CABLE, json.dumps(document)]
        process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        stack.callback(process.kill)
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise LanError("TAP devices cannot be made here; what the cable said is on stderr")
        for machine in self.machines:
            far = f"{machine}-far"
            run("ip", "-n", self.switch, "link", "set", "dev", far, "netns", self.namespace(machine))
            run("ip", "-n", self.namespace(machine), "link", "set", "dev", far, "name", "eth0")


@contextmanager
def open_namespaces(machines: Sequence[str], delay: Delay | None) -> Iterator[NamespaceLan]:
    """Raises :class:`LanError` where the system does not allow it."""
    with contextlib.ExitStack() as stack:
        sweep()
        lan = NamespaceLan(machines, f"{PREFIX}-{os.getpid()}-{secrets.token_hex(3)}")
        lan.build(stack, delay)
        yield lan


def sweep() -> None:
    """Remove what runs that were killed have left behind: their names hold the number of a process that is gone."""
    for line in run("ip", "netns", "list").splitlines():
        name = line.split()[0]
        owner = name.removeprefix(f"{PREFIX}-").split("-")[0]
        if name.startswith(f"{PREFIX}-") and owner.isdigit() and not Path("/proc", owner).exists():
            _remove(name)


def _remove(namespace: str) -> None:
    """Without an error: another run may be sweeping as well."""
    with contextlib.suppress(LanError):
        for pid in run("ip", "netns", "pids", namespace).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        run("ip", "netns", "del", namespace)
