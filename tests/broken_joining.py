"""``python tests/broken_joining.py FAULT token|join ...``: the reference's commands with one fault in them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509

from dsdproto.errors import PeerError
from dsdproto.wire.codec import encode_message
from dsdproto.wire.messages import Join, Ping
from reference_nodes import authority, join, join_service, join_wire, tls
from reference_nodes.cli.main import main
from reference_nodes.join_service import JoinDesk

FAULTS: dict[str, Callable[[], Any]] = {}


def fault(function: Callable[[], Any]) -> Callable[[], Any]:
    FAULTS[function.__name__] = function
    return function


# ---------------------------------------------------------------- authorities


@fault
def hears_any_number_of_guesses() -> None:
    join_service.MAX_WRONG = 50


@fault
def takes_any_proof() -> None:
    join_service.verify = lambda *_: True


@fault
def counts_bad_proofs_as_guesses() -> None:
    decide = JoinDesk.decide

    def counting(self: JoinDesk, *given: Any) -> Any:
        try:
            return decide(self, *given)
        except PeerError:
            self.wrong += 1
            raise

    JoinDesk.decide = counting  # type: ignore[method-assign]


@fault
def lets_two_in() -> None:
    decide = JoinDesk.decide

    def forgetting(self: JoinDesk, *given: Any) -> Any:
        answer = decide(self, *given)
        self.admitted = None
        return answer

    JoinDesk.decide = forgetting  # type: ignore[method-assign]


@fault
def reads_long_payloads() -> None:
    join_wire.MAX_JOIN_PAYLOAD = 1 << 20


@fault
def answers_an_error_with_an_error() -> None:
    receive = join_wire.receive_message
    join_service.receive_message = lambda stream, *_: receive(stream, Join)  # type: ignore[assignment]


@fault
def numbers_no_certificates() -> None:
    x509.random_serial_number = lambda: 7


@fault
def gives_all_one_subject() -> None:
    authority.node_id_text = lambda _: "a" * 54


@fault
def speaks_first() -> None:
    accept = tls.accept

    async def greeting(*given: Any, **named: Any) -> Any:
        stream = await accept(*given, **named)
        await stream.send_all(encode_message(0, Ping(sequence=1)))
        return stream

    tls.accept = greeting  # type: ignore[assignment]


@fault
def prints_no_token() -> None:
    sys.exit(0)


# ---------------------------------------------------------------- newcomers


@fault
def talks_to_anybody() -> None:
    tls.require_authority = lambda stream, pin: None


@fault
def takes_any_answer() -> None:
    join._check = lambda joined, *_: tuple(map(x509.load_der_x509_certificate, (joined.certificate, joined.authority)))  # type: ignore[assignment]


@fault
def keeps_what_it_discards() -> None:
    check = join._check

    def keeping(joined: Any, *given: Any) -> Any:
        Path(sys.argv[sys.argv.index("--home") + 1], "left").write_bytes(joined.certificate)
        return check(joined, *given)

    join._check = keeping


@fault
def proves_something_else() -> None:
    join.JOIN_CONTEXT = "dsdp-join/2"


@fault
def is_always_content() -> None:
    main(sys.argv[1:])
    sys.exit(0)


if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()
    sys.exit(main(sys.argv[1:]))
