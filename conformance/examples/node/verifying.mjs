// The rules of the verify plane (SPEC.md section 14), for both of its ends. No state and no network in here.

import { choose } from './coupled.mjs';
import { digestAfter, extend, short } from './prefix.mjs';
import { refuse } from './refusal.mjs';
import { finishOf } from './stream.mjs';
import { row, step } from './tm1.mjs';
import { Tree } from './tree.mjs';

/** V-10, S-SAMP-12: the target's walk down a tree. base: {position, digest, context}. */
export function walk(model, contract, base, maxContext, verify) {
  const tree = new Tree(verify.tokens, verify.parents);
  let { position, digest, context } = base;
  let [node, margin] = [0, 2 ** 32 - 1];
  const tokens = [];
  for (;;) {
    const choice = choose(row(model, context), contract.sampling, position);
    const { token } = choice;
    margin = Math.min(margin, choice.margin);
    tokens.push(token);
    position += 1;
    digest = extend(digest, token);
    context = step(context, token);
    const child = tree.child(node, token);
    const finish = finishOf(contract, maxContext, position, token);
    if (child) node = child;
    if (!child || finish !== undefined) {
      const verdict = { round: verify.round, accepted: node, digest: short(digest), margin, finish };
      if (!child) verdict.token = token;
      return { verdict, tokens, position, digest, context };
    }
  }
}

/** What a verifier refuses of a VERIFY (C-10, V-2, V-4, V-5). due: {round, position, digest}. */
export function checkVerify(verify, due, { contract, maxNodes, maxContext, trees }) {
  if (verify.parents && !trees) throw refuse('MESSAGE_INVALID', 'C-10', 'parents without the feature TREES');
  if (verify.round !== due.round) throw refuse('MESSAGE_INVALID', 'V-2', `round ${verify.round}, due is ${due.round}`);
  if (verify.position !== due.position || !verify.base.equals(short(due.digest))) {
    throw refuse('PREFIX_UNKNOWN', 'V-4', `base at ${verify.position}, the prefix ends at ${due.position}`);
  }
  const wrong = (text) => refuse('PROPOSAL_INVALID', 'V-5', text);
  if (verify.tokens.length > maxNodes) throw wrong(`${verify.tokens.length} nodes, ${maxNodes} are allowed`);
  if (verify.tokens.some((token) => token >= contract.vocabulary_size)) throw wrong('a token outside the vocabulary');
  const tree = new Tree(verify.tokens, verify.parents);
  if (tree.twice !== null) throw wrong(`token ${tree.twice} twice below one node`);
  if (verify.position + tree.depth > maxContext) throw wrong(`a path beyond position ${maxContext}`);
}

/** What a leader takes of a VERDICT, or refuses (V-2, V-6). base: {position, digest}. */
export function checkVerdict(verdict, verify, base, contract, maxContext) {
  const wrong = (clause, text) => refuse('VERDICT_INVALID', clause, text);
  if (verdict.round !== verify.round) throw wrong('V-2', `round ${verdict.round}, asked was ${verify.round}`);
  const tree = new Tree(verify.tokens, verify.parents);
  if (verdict.accepted > verify.tokens.length) throw wrong('V-6', `node ${verdict.accepted} of ${verify.tokens.length}`);
  const path = tree.path(verdict.accepted);
  const tokens = path.map((node) => tree.token(node));
  if (verdict.token !== undefined) tokens.push(verdict.token);
  if (!tokens.length) throw wrong('V-6', 'no token at all');
  if (tokens.some((token) => token >= contract.vocabulary_size)) throw wrong('V-6', 'a token outside the vocabulary');
  const ends = tokens.map((token, i) => finishOf(contract, maxContext, base.position + i + 1, token));
  const last = ends.pop();
  if (ends.some((finish) => finish !== undefined)) throw wrong('V-6', 'a token behind the end of the stream');
  if (verdict.finish !== last) throw wrong('V-6', `finish ${verdict.finish}, by S-9 it is ${last}`);
  const digest = digestAfter(base.digest, tokens);
  if (!short(digest).equals(verdict.digest)) throw wrong('V-6', 'another digest');
  return { path, tokens, digest, finish: last };
}

/** What a leader refuses of a PROPOSE, wherever its base is (C-10, D-3, D-4). */
export function checkPropose(propose, contract, { trees, scores }) {
  if (propose.parents && !trees) throw refuse('MESSAGE_INVALID', 'C-10', 'parents without the feature TREES');
  if (propose.scores && !scores) throw refuse('MESSAGE_INVALID', 'C-10', 'scores without the feature SCORES');
  const wrong = (clause, text) => refuse('PROPOSAL_INVALID', clause, text);
  if (propose.tokens.some((token) => token >= contract.vocabulary_size)) throw wrong('D-4', 'a token outside the vocabulary');
  const tree = new Tree(propose.tokens, propose.parents);
  if (tree.twice !== null) throw wrong('D-3', `token ${tree.twice} twice below one node`);
}
