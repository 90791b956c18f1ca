// Arithmetic of the commit plane, and the leader that takes a view up (SPEC.md sections 16.5, 16.7, 16.8).

import { Prefix } from './prefix.mjs';
import { refuse } from './refusal.mjs';

export const majorityOf = (n) => (n >> 1) + 1;

/** */
export function turn(promised, number, n) {
  const distance = ((((number - promised - 1) % n) + n) % n) + 1;
  return { leader: promised % n, distance, view: promised + distance };
}

/** the height that a majority has reached. */
export function committedHeight(n, heights) {
  const majority = majorityOf(n);
  return { majority, height: [...heights].sort((a, b) => b - a)[majority - 1] ?? 0 };
}

/** The first PREPARE on a voter's channel. chain: {prefix, height, finish}. */
export function firstPrepare(view, chain, committed) {
  const { prefix, height, finish } = chain;
  return {
    view,
    height,
    position: committed,
    base: prefix.digestAt(committed),
    tokens: prefix.tokensFrom(committed),
    digest: prefix.digest,
    finish,
  };
}

/** reports are [{member, enlisted}]; null if the leader may not go on yet. */
export function adopt({ contract, committed, n, own, reports }) {
  const counted = reports.filter(({ enlisted }) => enlisted.committed <= enlisted.position);
  if (counted.length < majorityOf(n) || !counted.some(({ member }) => member === own)) return null;
  const better = (a, b) => b.view > a.view || (b.view === a.view && b.height > a.height);
  const { member, enlisted: best } = counted.reduce((a, b) => (better(a.enlisted, b.enlisted) ? b : a));
  const prefix = Prefix.ofContract(contract, committed);
  const known = prefix.position;
  prefix.grow(best.tokens);
  const mismatch = (whose, text) => Object.assign(refuse('LEDGER_MISMATCH', 'Q-31', text), { member: whose });
  if (prefix.position !== best.position || !prefix.digest.equals(best.digest)) {
    throw mismatch(member, `the best log ends at ${best.position}, its tokens say ${prefix.position}`);
  }
  for (const { member: whose, enlisted } of counted) {
    if (enlisted.committed > prefix.position) throw mismatch(whose, `${enlisted.committed} are said to be committed`);
  }
  const again = prefix.position > known || best.finish !== undefined;
  return { prefix, again, height: best.height + (again ? 1 : 0), finish: best.finish, counted };
}
