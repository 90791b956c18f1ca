"""A disk that takes its time: records become durable in order, many with one sync; a crash may lose the last ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dsdproto.effects import Persist

if TYPE_CHECKING:
    from reference_nodes.simulator.host import SimNode


@dataclass(slots=True, eq=False)
class Disk:
    """Writes behind one another: what is asked for during a sync is in the next one.

    :param seconds: gives the duration of the next sync.
    """

    seconds: Callable[[], float]
    writing: list[Persist] = field(default_factory=list)
    """in the sync that runs"""
    waiting: list[Persist] = field(default_factory=list)
    """asked for since it began"""
    on_durable: Callable[[SimNode, Any], None] | None = None
    """called for each record as it becomes durable"""

    def write(self, node: SimNode, effect: Persist) -> None:
        self.waiting.append(effect)
        if not self.writing:
            self._sync(node)

    def lose(self, node: SimNode, kept: int) -> None:
        """The node died. Of the records that were not durable yet, the first ``kept`` are all the same."""
        pending = self.writing + self.waiting
        self.writing, self.waiting = [], []
        for effect in pending[:kept]:
            self._keep(node, effect.record)

    def _sync(self, node: SimNode) -> None:
        self.writing, self.waiting = self.waiting, []
        node.world.at(node.world.now + self.seconds(), self._synced, node, node.life)

    def _synced(self, node: SimNode, life: int) -> None:
        if life != node.life:
            return
        done, self.writing = self.writing, []
        for effect in done:
            self._keep(node, effect.record)
        if self.waiting:
            self._sync(node)
        for effect in done:
            node.written(life, effect)

    def _keep(self, node: SimNode, record: Any) -> None:
        node.stored.append(record)
        node.world.note(node, "stored", record)
        if self.on_durable is not None:
            self.on_durable(node, record)
