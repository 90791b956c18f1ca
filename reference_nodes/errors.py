"""What can go wrong around a node, told to the person who runs it.

Each error says what was wrong and where in ``text``, and what to do about it in ``advice``; ``str()`` gives
both. Protocol faults of a peer are :class:`dsdproto.errors.PeerError`; these here never travel.
"""

from __future__ import annotations

from dsdproto.errors import DsdpError


class NodeError(DsdpError):
    """Base of the errors that the reference nodes raise on purpose.

    :param text: what was wrong, with the values that show it.
    :param advice: what the operator can do; empty where nothing can be said.
    """

    code = "node"
    """Short stable name of the kind of error, for ``--json`` output."""

    def __init__(self, text: str, advice: str = "") -> None:
        super().__init__(f"{text} {advice}" if advice else text)
        self.text = text
        self.advice = advice
