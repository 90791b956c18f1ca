"""The door of nodes that already run: an address, and the certificates that the suite issued for them.

``dsdp-conformance issue DIR`` makes authority and testee's identity (:mod:`conformance.door.pki`), the operator starts
the node with them, and the suite dials it as often as it likes, each time as another neighbour.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any

import trio

from conformance.case import Case, Rung
from conformance.door.pki import Authority, Identity
from conformance.testee import About
from conformance.trial import Trial
from conformance.verdict import Conclusion, Gone, Skipped, Unsupported, leaves
from dsdproto.errors import DsdpError
from dsdproto.registry import ALPN, Feature, Role
from dsdproto.wire.messages import Hello

CONNECT_SECONDS = 5.0
RETRY_SECONDS = 0.25
ALERT = "ALERT"


class AddressError(DsdpError):
    """Text that is no address; says what to write instead."""


class Unreachable(DsdpError, Gone):
    """Nobody answers where the testee should be: no further case can be run."""

    def __init__(self, text: str) -> None:
        Gone.__init__(self, text)


class Refused(DsdpError):
    """The TLS handshake did not come about.

    :param alert: the name of the alert that the other side sent; empty: it hung up without one.
    """

    def __init__(self, text: str, alert: str = "") -> None:
        super().__init__(text)
        self.alert = alert


@dataclass(frozen=True)
class Dial:
    """Where the testee is."""

    host: str
    port: int
    authority: Authority

    @classmethod
    def at(cls, address: str, authority: Authority) -> Dial:
        """From HOST:PORT or [IPV6]:PORT. Raises :class:`AddressError`."""
        return cls(*parse_address(address), authority)

    @property
    def address(self) -> str:
        return written(self.host, self.port)

    async def tcp(self, seconds: float = CONNECT_SECONDS) -> trio.SocketStream:
        """Tries again until ``seconds`` are over: a testee may be started anew by its operator. Raises
        :class:`Unreachable`."""
        reason = "no answer"
        with trio.move_on_after(seconds):
            while True:
                try:
                    return await trio.open_tcp_stream(self.host, self.port)
                except OSError as error:
                    reason = next(map(_reason, leaves(error.__cause__ or error)))
                    if isinstance(error, socket.gaierror):
                        raise Unreachable(f"{self.host!r} is no host: {reason}") from error
                await trio.sleep(RETRY_SECONDS)
        raise Unreachable(f"nothing answers at {self.address} for {seconds:g} s: {reason}")

    async def tls(
        self,
        identity: Identity,
        *,
        seconds: float = CONNECT_SECONDS,
        alpn: str | None = ALPN,
        show: bool = True,
        version: ssl.TLSVersion | None = None,
    ) -> trio.SSLStream[trio.SocketStream]:
        """A connection as ``identity``, its handshake done as far as a dialer can tell (clause T-8).

        Raises :class:`Unreachable`, :class:`Refused`.
        """
        transport = await self.tcp(seconds)
        context = identity.context(False, alpn=alpn, show=show, version=version)
        stream = trio.SSLStream(transport, context, server_hostname="dsdp.internal", https_compatible=True)
        try:
            with trio.fail_after(seconds):
                await stream.do_handshake()
        except trio.TooSlowError as error:
            await trio.aclose_forcefully(stream)
            raise Unreachable(f"{self.address} did not finish the TLS handshake within {seconds:g} s") from error
        except (trio.BrokenResourceError, OSError) as error:
            await trio.aclose_forcefully(stream)
            raise Refused(*why(error)) from error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream


def _reason(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if number and number > 0 else getattr(error, "strerror", None) or str(error)


def why(error: BaseException) -> tuple[str, str]:
    """(text, alert) of a fault of a TLS stream; the alert is empty where none came."""
    cause = error.__cause__ if isinstance(error, trio.BrokenResourceError) and error.__cause__ else error
    reason = getattr(cause, "reason", None) or ""
    if isinstance(cause, ssl.SSLError) and ALERT in reason:
        return f"TLS alert {reason.partition('ALERT_')[2].lower().replace('_', ' ')}", reason
    return str(cause) or type(cause).__name__, ""


def written(host: str, port: int) -> str:
    """HOST:PORT, or [IPV6]:PORT."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(text: str) -> tuple[str, int]:
    """(host, port). Raises :class:`AddressError`."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            host = ""
    elif ":" in host:
        host = ""
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise AddressError(f"{text!r} is no address; write HOST:PORT, or [ADDRESS]:PORT for IPv6")
    return host, int(port)


class DialDoor:
    """The door of ``--dial HOST:PORT --role ROLE``: rung 3 only, and of that the cases of the roles under test.

    :param roles: under test; empty: those that the testee's HELLO names.
    :param listen: addresses of the suite that the testee was told to dial, for the cases in which it does.
    """

    def __init__(self, dial: Dial, roles: tuple[Role, ...] = (), listen: tuple[tuple[str, int], ...] = ()) -> None:
        self.dial = dial
        self.roles = roles
        self.listen = listen
        self._site: Any = None

    def __enter__(self) -> DialDoor:
        """Asks the testee who it is. Raises :class:`Unreachable`, :class:`Refused`."""
        from conformance.live.testee import Site, ask

        self._site = Site(self.dial, trio.run(ask, self.dial), listen=self.listen)
        return self

    def __exit__(self, *error: object) -> None:
        """What a case opened was closed with the case; the node itself is its operator's."""

    @property
    def hello(self) -> Hello:
        assert self._site is not None
        return self._site.hello

    def about(self) -> About:
        name, _, version = self.hello.agent.partition("/")
        known = [Role(role).name.lower() for role in self.hello.roles if role in Role._value2member_map_]
        asked = "".join(f" --role {role.name.lower()}" for role in self.roles)
        asked += "".join(f" --listen {written(*place)}" for place in self.listen)
        features = tuple(Feature(f).name for f in self.hello.features if f in Feature._value2member_map_)
        return About(name or "unnamed", version, f"--dial {self.dial.address}{asked}", tuple(known), features)

    def lacks(self, case: Case) -> Conclusion | None:
        if case.rung is not Rung.LIVE:
            return Skipped(f"rung {int(case.rung)} needs a testee behind --exec")
        if case.role is None:
            return Unsupported(f"the case needs {', '.join(case.needs)}")
        if self.roles and case.role not in self.roles:
            return Skipped(f"the role under test is {', '.join(role.name.lower() for role in self.roles)}")
        if case.role not in self.hello.roles:
            return Unsupported(f"HELLO does not name the role {case.role.name.lower()}")
        for need in case.needs:
            if need == "peers":
                if not self.listen:
                    return Skipped("the case needs a testee that was told to dial the suite: --listen HOST:PORT")
                continue
            if need in Feature.__members__ and Feature[need] not in self.hello.features:
                return Unsupported(f"HELLO does not name the feature {need}")
            if need not in Feature.__members__:
                return Skipped(f"the case needs {need!r}, which a testee behind --dial cannot be asked for")
        return None

    def trial(self, trial: Trial) -> AbstractContextManager[Any]:
        raise Skipped("rungs 1 and 2 need a testee behind --exec")

    def live_trial(self, trial: Trial) -> AbstractAsyncContextManager[Any]:
        from conformance.live.testee import live_trial

        return live_trial(trial, self._site)
