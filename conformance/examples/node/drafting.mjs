// One draft channel as both of its ends see it (SPEC.md section 12): the announced prefix, the numbered nodes, and how
// many of them are outstanding.

import { Prefix, extend, short } from './prefix.mjs';
import { refuse } from './refusal.mjs';
import { Tree } from './tree.mjs';

const nameOf = (position, shortDigest) => `${position}:${shortDigest.toString('hex')}`;

export class DraftChannel {
  /** contract and committed of ATTACH. */
  constructor(contract, committed) {
    this.contract = contract;
    this.verified = Prefix.ofContract(contract, committed);
    this.nodes = [null]; // by number (D-4): {position, digest, token, parent} or null where the base was unknown
    this.byName = new Map();
  }

  get drafted() {
    return this.nodes.length - 1;
  }

  #base(position, base) {
    const { verified } = this;
    if (verified.knows(position) && short(verified.digestAt(position)).equals(base)) {
      return { position, digest: verified.digestAt(position), parent: null };
    }
    return this.byName.get(nameOf(position, base)) ?? null;
  }

  /** Numbers the nodes of a PROPOSE (D-4). */
  propose({ position, base, tokens, parents }) {
    const tree = new Tree(tokens, parents);
    const made = [this.#base(position, base)];
    tokens.forEach((token, i) => {
      const parent = made[tree.parents[i]];
      let node = null;
      if (parent) {
        const digest = extend(parent.digest, token);
        const name = nameOf(parent.position + 1, short(digest));
        node = this.byName.get(name) ?? { position: parent.position + 1, digest, token, parent };
        this.byName.set(name, node);
      }
      made.push(node);
      this.nodes.push(node);
    });
  }

  /** Tokens from the announced prefix down to a node; null if it does not hang below it. */
  #pathTo(node) {
    const { position, digest } = this.verified;
    const tokens = [];
    let at = node;
    while (at && at.position > position) {
      tokens.unshift(at.token);
      at = at.parent;
    }
    return at && tokens.length && at.position === position && at.digest.equals(digest) ? tokens : null;
  }

  /** The path of an ADVANCE, or a refusal; applies nothing (D-7). */
  pathOf({ position, ref, tokens }) {
    const wrong = (text) => refuse('ADVANCE_INVALID', 'D-7', text);
    let path = [];
    if (ref) {
      if (ref > this.drafted) throw wrong(`node ${ref} of ${this.drafted}`);
      path = this.#pathTo(this.nodes[ref]);
      if (!path) throw wrong(`node ${ref} does not hang below position ${this.verified.position}`);
    }
    path = [...path, ...tokens];
    if (position !== this.verified.position + path.length) {
      throw wrong(`position ${position}, by the path it is ${this.verified.position + path.length}`);
    }
    if (tokens.some((token) => token >= this.contract.vocabulary_size)) throw wrong('a token outside the vocabulary');
    return path;
  }

  advance(message) {
    this.verified.grow(this.pathOf(message));
  }

  /** D-6: nodes below the announced prefix; one that was numbered twice counts twice. */
  get outstanding() {
    return this.nodes.filter((node) => node && this.#pathTo(node)).length;
  }

  /** The deepest node of this drafter on the way to a prefix of the trie, for `ref`; steps: names from the top down. */
  refFor(path) {
    let digest = this.verified.digest;
    let { position } = this.verified;
    let [best, depth] = [0, 0];
    path.forEach((token, i) => {
      digest = extend(digest, token);
      position += 1;
      const node = this.byName.get(nameOf(position, short(digest)));
      if (!node || !this.#pathTo(node)) return;
      best = this.nodes.indexOf(node);
      depth = i + 1;
    });
    return { ref: best, rest: path.slice(depth) };
  }
}
