// The coupled choice (SPEC.md sections 17.2 to 17.6). A row is a list of [token, logit]; all others are taken out.

import { F, G, S, W, below } from './fixed.mjs';
import { DOMAIN, wordOf } from './philox.mjs';
import { worthless } from './refusal.mjs';

const MOST = 2 ** 32 - 1;

/** S-SAMP-2, S-SAMP-3: the tokens by rank. */
function ranked(row) {
  if (row.some(([, logit]) => Number.isNaN(logit))) throw worthless('S-SAMP-2', 'a row that contains a NaN');
  const left = row.filter(([, logit]) => logit !== -Infinity);
  if (!left.length) throw worthless('S-SAMP-2', 'a row in which no token is left');
  return left.sort((a, b) => (b[1] > a[1] ? 1 : b[1] < a[1] ? -1 : a[0] - b[0]));
}

/** S-SAMP-7: top-k, then top-p. Gives [token, x]. */
function staying(rank, { temperature, top_k: topK, top_p: topP }) {
  const best = F(rank[0][1]);
  const factor = S(temperature);
  const kept = (topK > 0 ? rank.slice(0, topK) : rank).map(([token, logit]) => [token, below(best - F(logit), factor)]);
  if (topP >= 65536) return kept;
  const weights = kept.map(([, x]) => BigInt(W(x)));
  const total = weights.reduce((a, b) => a + b, 0n);
  const need = (total * BigInt(topP)) / 65536n || 1n;
  let sum = 0n;
  let count = 0;
  while (sum < need) sum += weights[count++];
  return kept.slice(0, count);
}

/** Tokens with their scores, best first, lowest id among equals. */
function scored(row, sampling, position) {
  const rank = ranked(row);
  if (sampling.temperature === 0) return rank.map(([token, logit]) => [token, F(logit)]); // S-SAMP-3
  return staying(rank, sampling)
    .map(([token, x]) => [token, G(wordOf(sampling.seed, DOMAIN.NOISE, position, token)) - x])
    .sort((a, b) => b[1] - a[1] || a[0] - b[0]);
}

/** The token at `position` and its margin (S-SAMP-9). */
export function choose(row, sampling, position) {
  const order = scored(row, sampling, position);
  const margin = order.length > 1 ? Math.min(order[0][1] - order[1][1], MOST) : MOST;
  return { token: order[0][0], margin };
}

/** S-SAMP-10: the best `count` tokens, best first. */
export function siblings(row, sampling, position, count) {
  return scored(row, sampling, position).slice(0, count).map(([token]) => token);
}

/** S-SAMP-11: the score of the probability weight / total. */
export function scoreOf(weight, total) {
  return Math.min(Math.max(Math.round(-16 * Math.log2(weight / total)), 0), 255);
}
