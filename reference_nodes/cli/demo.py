"""What ``dsdp demo`` measures: each prompt with drafters and without, in turn, and whether the streams are the same."""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
from typing import TYPE_CHECKING, Any

from dsdproto.identity import parse_node_id, short_node_id
from reference_nodes.cli.generation import Generation, drafter_list, generate, ratio, summary
from reference_nodes.cli.options import Prompt, sampling_of
from reference_nodes.cli.output import Painter, figures, say
from reference_nodes.cli.run_command import Shower, legend, percent, shown, wire_bytes
from reference_nodes.client import make_contract

if TYPE_CHECKING:
    from dsdproto.wire.messages import Contract
    from reference_nodes.cli.local import LocalCluster
    from reference_nodes.cli.texts import Vocabulary

WARM_UP_TOKENS = 8


@dataclasses.dataclass(slots=True)
class Measured:
    """One prompt: its runs with drafters and without, in pairs."""

    text: str
    drafted: list[Generation]
    plain: list[Generation]
    draft_bytes: int
    delivery_bytes: int

    @property
    def identical(self) -> bool:
        """Every stream of every run is the same."""
        return len({tuple(item.tokens) for item in (*self.drafted, *self.plain)}) == 1

    @property
    def rate(self) -> float:
        return statistics.median(item.rate for item in self.drafted)

    @property
    def plain_rate(self) -> float:
        return statistics.median(item.rate for item in self.plain)

    @property
    def speedup(self) -> float:
        """Median over the pairs: each pair ran back to back."""
        return statistics.median(one.rate / two.rate for one, two in zip(self.drafted, self.plain))


class Demo:
    """The measurements of one demo."""

    def __init__(
        self, args: argparse.Namespace, cluster: LocalCluster, vocabulary: Vocabulary, painter: Painter, drafters: int
    ) -> None:
        self.args = args
        self.cluster = cluster
        self.vocabulary = vocabulary
        self.painter = painter
        self.drafters = drafters
        self.done: list[Measured] = []

    def contract(self, prompt: Prompt, max_tokens: int) -> Contract:
        return make_contract(
            (self.vocabulary.size, self.vocabulary.digest),
            self.vocabulary.encode(prompt),
            max_tokens=max_tokens,
            sampling=sampling_of(self.args),
            seed=self.args.seed,
            stop_tokens=self.vocabulary.stop_tokens,
        )

    async def generate(self, contract: Contract, drafters: int, show: Any = None) -> Generation:
        return await generate(self.cluster.node, contract, max_drafters=drafters, leader=self.cluster.leader, show=show)

    async def warm_up(self) -> None:
        """First use of a model pages its weights in; that is nobody's speed."""
        contract = self.contract(self.args.questions[0], WARM_UP_TOKENS)
        await self.generate(contract, self.drafters)
        await self.generate(contract, 0)

    async def measure(self, prompt: Prompt) -> None:
        """With drafters and without, in turn; the first run is shown."""
        repeat = self.args.repeat or (1 if self.args.prompts else 3)
        contract = self.contract(prompt, self.args.max_tokens)
        link = await self.cluster.node.leader_link(self.cluster.leader, 10.0)
        shower = Shower(self.vocabulary, None if self.args.json else self.painter)
        if not self.args.json:
            print(f"\n{self.painter.bold('> ' + prompt.text)}\n")
        measured = Measured("", [], [], 0, 0)
        before, delivery = await self.cluster.wire(), wire_bytes(self.cluster.node, link)
        measured.drafted.append(await self.generate(contract, self.drafters, shower))
        measured.draft_bytes = (await self.cluster.wire()).since(before, "draft")
        measured.delivery_bytes = wire_bytes(self.cluster.node, link) - delivery
        shower.finish()
        if not self.args.json:
            print()
            if sys.stderr.isatty():
                say(self.painter.dim(f"the same on the target alone, and {repeat - 1} more of each ..."))
        measured.text = shower.text
        measured.plain.append(await self.generate(contract, 0))
        for turn in range(1, repeat):
            # Who goes first changes, so that neither always has the warmer machine.
            for drafters in (0, self.drafters) if turn % 2 else (self.drafters, 0):
                (measured.drafted if drafters else measured.plain).append(await self.generate(contract, drafters))
        self.done.append(measured)

    def report(self, drafters: list[str]) -> dict[str, Any]:
        """What ``--json`` prints."""

        first = [item.drafted[0] for item in self.done]
        counts = summary(first)
        tokens = counts["tokens"]
        draft = sum(item.draft_bytes for item in self.done)
        delivery = sum(item.delivery_bytes for item in self.done)
        prompts = [
            {
                "text": item.text,
                "tokens": len(item.drafted[0].tokens),
                "identical": item.identical,
                "tokens_per_s": round(item.rate, 3),
                "plain_tokens_per_s": round(item.plain_rate, 3),
                "speedup": round(item.speedup, 4),
            }
            for item in self.done
        ]
        args = self.args
        return {
            "model": first[0].model,
            "drafters": self._drafters(first),
            "draft_models": drafters,
            "tokens": tokens,
            "text": "\n\n".join(item.text for item in self.done),
            "identical": all(item.identical for item in self.done),
            **{key: value for key, value in counts.items() if key != "tokens"},
            "bytes_per_committed_token": ratio(draft + delivery, tokens),
            "draft_bytes_per_committed_token": ratio(draft, tokens),
            "delivery_bytes_per_committed_token": ratio(delivery, tokens),
            "tokens_per_s": round(statistics.median(item.rate for item in self.done), 3),
            "plain_tokens_per_s": round(statistics.median(item.plain_rate for item in self.done), 3),
            "speedup": round(statistics.median(item.speedup for item in self.done), 4),
            "repetitions": len(self.done[0].drafted),
            "met_by": "addresses" if self.cluster.fault else "mdns",
            "mdns_fault": self.cluster.fault,
            "lost_nodes": [child.name for child in self.cluster.lost],
            "sampling": {
                "temperature": args.temperature,
                "top_p": args.top_p,
                "top_k": args.top_k,
                "seed": args.seed,
                "max_tokens": args.max_tokens,
            },
            "profile": first[0].profile,
            "prompts": prompts,
        }

    def _drafters(self, shown: list[Generation]) -> list[dict[str, Any]]:
        """Every draft node, with how many of the tokens shown came from it."""
        shares = {row["node"]: row["committed"] for row in drafter_list(shown)}
        return [
            {
                "name": child.name,
                "node": child.node,
                "model": child.ready["models"][0],
                "address": child.address,
                "committed": shares.get(short_node_id(parse_node_id(child.node)), 0),
            }
            for child in self.cluster.drafters
        ]

    def text(self, report: dict[str, Any]) -> str:
        """The same for people."""
        runs = report["repetitions"]
        taken = "one run of each" if runs == 1 else f"medians of {runs} runs each"
        accepted = f"{report['accepted']} accepted ({percent(report['acceptance_rate'])})"
        forwards = shown(report["target_forwards_per_token"])
        draft, delivery = report["draft_bytes_per_committed_token"], report["delivery_bytes_per_committed_token"]
        rows = {
            "tokens": report["tokens"],
            "proposed by": self._legend(report),
            "drafted": f"{report['drafted']}, of which {accepted}",
            "tokens per target forward": f"{shown(report['mean_acceptance_length'])} ({forwards} forwards per token)",
            "bytes per committed token": f"{shown(report['bytes_per_committed_token'])}, TLS included: "
            f"{shown(draft)} with the drafters, {shown(delivery)} delivery",
            "with drafters": f"{report['tokens_per_s']:.1f} tokens/s",
            "target alone": f"{report['plain_tokens_per_s']:.1f} tokens/s",
            "speedup": f"{report['speedup']:.2f}x ({taken}, in turn)",
            "identical to target alone": "yes" if report["identical"] else "NO",
        }
        if report["lost_nodes"]:
            rows["ended on their own"] = ", ".join(report["lost_nodes"])
        if len(self.done) > 1:
            same = sum(item.identical for item in self.done)
            rows["identical to target alone"] += f" ({same} of {len(self.done)} prompts)"
        return figures(rows)

    def _legend(self, report: dict[str, Any]) -> str:
        """Who proposed how many of the tokens shown; in colour where one stream gives each drafter its number."""
        if len(self.done) == 1:
            return legend(self.done[0].drafted[0], self.painter)
        shares = drafter_list([item.drafted[0] for item in self.done])
        own = report["tokens"] - sum(row["committed"] for row in shares)
        return ", ".join([f"the target itself {own}", *(f"{row['model']} {row['committed']}" for row in shares)])
