"""Why a connection did not come about: one type for each cause, told from what the operating system and
OpenSSL report.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator

import trio

from reference_nodes.errors import NodeError


class ConnectError(NodeError):
    """Base: no usable connection."""

    code = "connect-failed"


class Unresolved(ConnectError):
    code = "name-not-found"


class Refused(ConnectError):
    code = "refused"


class TimedOut(ConnectError):
    code = "timeout"


class Unreachable(ConnectError):
    code = "unreachable"


class Hung(ConnectError):
    """The other side closed the connection without saying why."""

    code = "closed"


class TlsFailure(ConnectError):
    """TLS failed for a reason that has no type of its own."""

    code = "tls-failed"


class NotTls(TlsFailure):
    code = "not-tls"


class WrongCluster(TlsFailure):
    """The other side's certificate comes from another authority."""

    code = "wrong-cluster"


class PeerExpired(TlsFailure):
    code = "peer-expired"


class PeerNotYetValid(TlsFailure):
    code = "peer-not-yet-valid"


class RefusedUs(TlsFailure):
    """The other side looked at our certificate and said no."""

    code = "refused-us"


class WrongProtocol(TlsFailure):
    code = "wrong-protocol"


class WrongNode(TlsFailure):
    code = "wrong-node"


class PlainForbidden(ConnectError):
    code = "plain-forbidden"


# X509_V_ERR_*: no, or no valid, path from the certificate to our authority.
_FOREIGN = {2, 7, 18, 19, 20, 21, 24, 25, 29, 30}
_NOT_YET, _EXPIRED = 9, 10

_ALERTS = {
    "UNKNOWN_CA": "it belongs to another cluster than this node",
    "CERTIFICATE_EXPIRED": "our certificate has expired by its clock",
    "BAD_CERTIFICATE": "our certificate is not valid yet by its clock, or damaged",
    "CERTIFICATE_REVOKED": "our certificate was revoked",
    "CERTIFICATE_UNKNOWN": "it does not accept our certificate",
    "UNSUPPORTED_CERTIFICATE": "it does not support our kind of key",
    "CERTIFICATE_REQUIRED": "we showed no certificate",
    "ACCESS_DENIED": "it does not let this node in",
    "DECRYPT_ERROR": "our signature did not verify",
}
_ALERT_ADVICE = {
    "UNKNOWN_CA": "Both nodes must have joined with tokens of one cluster: compare `dsdp status` on both.",
    "CERTIFICATE_EXPIRED": "Compare the clocks; then renew with `dsdp join TOKEN` (the node keeps its id).",
    "BAD_CERTIFICATE": "Compare the clocks of both machines.",
}
_FOREIGN_PROTOCOL = (
    "WRONG_VERSION_NUMBER",
    "RECORD_LAYER_FAILURE",
    "HTTP_REQUEST",
    "BAD_RECORD_TYPE",
    "PACKET_LENGTH",
)


def explain(where: str, fault: BaseException) -> ConnectError:
    """The :class:`ConnectError` for what :mod:`trio`, :mod:`ssl` or the operating system raised about
    ``where``.
    """
    causes = list(_causes(fault))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _verification(where, cause)
    for cause in causes:
        if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return _hung(where)
        if isinstance(cause, ssl.SSLError):
            return _tls(where, cause)
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            return Unresolved(
                f"{where}: no such host name ({cause.strerror}).", "Check the spelling, or give an address."
            )
    numbers = [cause.errno for cause in causes if isinstance(cause, OSError) and cause.errno is not None]
    for number in numbers:
        if number == errno.ECONNREFUSED:
            return Refused(
                f"{where} refused the connection: the machine is there, but nothing listens on that port.",
                "Is `dsdp serve` running there, on this port and on this interface?",
            )
        if number == errno.ETIMEDOUT:
            return TimedOut(f"{where} did not answer.", "A firewall that drops packets looks like this.")
        if number in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL):
            return Unreachable(f"{where} cannot be reached: {_strerror(number)}.", "Check the address and the network.")
        if number in (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED):
            return _hung(where)
    if any(isinstance(cause, trio.BrokenResourceError | trio.ClosedResourceError) for cause in causes):
        return _hung(where)
    return ConnectError(f"{where}: {fault!r}")


def _verification(where: str, cause: ssl.SSLCertVerificationError) -> ConnectError:
    if cause.verify_code == _EXPIRED:
        return PeerExpired(
            f"the certificate of {where} has expired by this machine's clock.",
            "Compare the clocks; then renew it there with `dsdp join TOKEN` (the node keeps its id).",
        )
    if cause.verify_code == _NOT_YET:
        return PeerNotYetValid(
            f"the certificate of {where} is not valid yet by this machine's clock.",
            "Compare the clocks of both machines (for example: timedatectl).",
        )
    if cause.verify_code in _FOREIGN:
        return WrongCluster(
            f"{where} belongs to another cluster ({cause.verify_message}).",
            "Both nodes must have joined with tokens of one cluster: compare `dsdp status` on both.",
        )
    return TlsFailure(f"the certificate of {where} was refused: {cause.verify_message}.")


def _tls(where: str, cause: ssl.SSLError) -> ConnectError:
    reason = cause.reason or str(cause)
    if "ALERT" in reason:
        if "NO_APPLICATION_PROTOCOL" in reason:
            return WrongProtocol(f"{where} speaks TLS, but not this protocol.", "Check the port.")
        for alert, meaning in _ALERTS.items():
            if reason.endswith(alert):
                return RefusedUs(f"{where} refused this node: {meaning}.", _ALERT_ADVICE.get(alert, ""))
        if reason.endswith("PROTOCOL_VERSION"):
            return TlsFailure(f"{where} does not speak TLS 1.3.")
    if any(text in reason for text in _FOREIGN_PROTOCOL):
        return NotTls(f"{where} does not speak TLS.", "Check the port: something else listens there.")
    if "CERTIFICATE" in reason and "PEER_DID_NOT" in reason:
        return TlsFailure(f"{where} showed no certificate.", "Only nodes that joined the cluster can connect.")
    if "UNEXPECTED_EOF" in reason:
        return _hung(where)
    return TlsFailure(f"TLS with {where} failed: {reason}.")


def _hung(where: str) -> Hung:
    return Hung(
        f"{where} closed the connection without saying why.",
        "It may have stopped, be at its limit of connections, or not be a DSDP node; its own log says more.",
    )


def _strerror(number: int) -> str:
    return os.strerror(number).lower()


def _causes(fault: BaseException | None) -> Iterator[BaseException]:
    """The fault and all that led to it, through exception groups, outermost first."""
    seen: set[int] = set()
    pending = [fault]
    while pending:
        current = pending.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        if isinstance(current, BaseExceptionGroup):
            pending.extend(current.exceptions)
        pending.extend((current.__cause__, current.__context__))
