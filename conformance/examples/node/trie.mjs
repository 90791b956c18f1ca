// The leader's draft trie (SPEC.md section 13) and its books (TRIE-9).

import { Prefix, extend, short } from './prefix.mjs';
import { WASTE } from './registry.mjs';
import { Tree } from './tree.mjs';

const NEUTRAL = 16; // D-5
const cause = Object.fromEntries(WASTE.map((name, i) => [name, i]));
const key = (digest) => short(digest).toString('hex');

export class Trie {
  /** Root: position and full digest. */
  constructor(position, digest, { maxNodes = Infinity, maxAhead = Infinity, maxParked = 0 } = {}) {
    this.history = new Prefix(digest, position);
    this.root = { position, digest, token: null, parent: null, children: new Map(), path: 0, seq: 0 };
    this.bounds = { maxNodes, maxAhead, maxParked };
    this.nodes = new Map([[key(digest), this.root]]); // by short digest, the root among them
    this.parked = [];
    this.books = new Map();
    this.waste = WASTE.map(() => 0);
    this.seq = 0;
  }

  get live() {
    return this.nodes.size - 1;
  }

  get parkedTokens() {
    return this.parked.reduce((sum, proposal) => sum + proposal.tokens.length, 0);
  }

  book(source) {
    if (!this.books.has(source)) this.books.set(source, { drafted: 0, accepted: 0, waste: WASTE.map(() => 0) });
    return this.books.get(source);
  }

  #spoil(source, name, count = 1) {
    this.book(source).waste[cause[name]] += count;
    this.waste[cause[name]] += count;
  }

  /** A PROPOSE: {source, position, base, tokens, parents, scores}. */
  graft(proposal) {
    this.book(proposal.source).drafted += proposal.tokens.length;
    this.#place(proposal);
    this.#retryParked();
  }

  #place(proposal) {
    const { source, position, base, tokens } = proposal;
    const found = this.nodes.get(base.toString('hex'));
    if (found && found.position !== position) return this.#spoil(source, 'wrong', tokens.length); // TRIE-2
    if (found) return this.#hang(proposal, found);
    if (position > this.root.position) return this.#park(proposal);
    if (position < this.history.from) return this.#spoil(source, 'stale', tokens.length); // TRIE-3
    if (!short(this.history.digestAt(position)).equals(base)) return this.#spoil(source, 'wrong', tokens.length);
    return this.#hang(proposal, { position, verified: true });
  }

  // Follows a proposal from its base: a node, the root, or a verified position before the root (TRIE-3).
  #hang({ source, tokens, parents, scores }, base) {
    const tree = new Tree(tokens, parents);
    const made = [base];
    tokens.forEach((token, i) => made.push(this.#hangOne(source, made[tree.parents[i]], token, scores?.[i] ?? NEUTRAL)));
    this.#evict();
  }

  #hangOne(source, parent, token, cost) {
    if (parent.fate) {
      this.#spoil(source, parent.fate);
      return parent;
    }
    if (parent.verified) {
      if (token !== this.history.tokensFrom(parent.position, parent.position + 1)[0]) {
        this.#spoil(source, 'wrong');
        return { fate: 'wrong' };
      }
      this.#spoil(source, 'stale');
      const position = parent.position + 1;
      return position === this.root.position ? this.root : { position, verified: true };
    }
    const there = parent.children.get(token);
    if (there) {
      this.#spoil(source, 'duplicate'); // TRIE-12: the first one is the origin
      there.cost = Math.min(there.cost, cost); // TRIE-6
      return there;
    }
    if (parent.position + 1 - this.root.position > this.bounds.maxAhead) {
      this.#spoil(source, 'too_deep');
      return { fate: 'too_deep' };
    }
    const digest = extend(parent.digest, token);
    const node = { position: parent.position + 1, digest, token, parent, children: new Map(), cost, source };
    node.seq = ++this.seq;
    parent.children.set(token, node);
    this.nodes.set(key(digest), node);
    return node;
  }

  /** TRIE-6: the sum of the costs from below the root down to a node. */
  pathCost(node) {
    let sum = 0;
    for (let at = node; at !== this.root; at = at.parent) sum += at.cost;
    return sum;
  }

  #ordered() {
    const list = [...this.nodes.values()].filter((node) => node !== this.root);
    return list.map((node) => [this.pathCost(node), node]).sort((a, b) => a[0] - b[0] || a[1].seq - b[1].seq);
  }

  #evict() {
    if (this.live <= this.bounds.maxNodes) return;
    for (const [, node] of this.#ordered().reverse()) {
      if (this.live <= this.bounds.maxNodes) return;
      if (node.flying) continue; // TRIE-7
      this.#remove(node);
      this.#spoil(node.source, 'evicted');
    }
  }

  #remove(node) {
    node.parent.children.delete(node.token);
    this.nodes.delete(key(node.digest));
  }

  #park(proposal) {
    if (!this.bounds.maxParked) return this.#spoil(proposal.source, 'orphan', proposal.tokens.length);
    this.parked.push(proposal);
    if (this.parked.length > this.bounds.maxParked) {
      const oldest = this.parked.shift();
      this.#spoil(oldest.source, 'orphan', oldest.tokens.length);
    }
  }

  // TRIE-4: a base that has appeared, or was passed by.
  #retryParked() {
    for (;;) {
      const at = this.parked.findIndex(
        ({ base, position }) => position <= this.root.position || this.nodes.has(base.toString('hex')),
      );
      if (at < 0) return;
      this.#place(this.parked.splice(at, 1)[0]);
    }
  }

  /** TRIE-11: the tree of least path cost; its nodes are in flight until the next advance. */
  choose(budget, depth = Infinity) {
    const chosen = this.#ordered()
      .map(([, node]) => node)
      .filter((node) => node.position - this.root.position <= depth)
      .slice(0, budget)
      .sort((a, b) => a.position - b.position || a.seq - b.seq);
    for (const node of chosen) node.flying = true;
    return chosen;
  }

  /** Tokens from the root down to a node. */
  pathTo(node) {
    const tokens = [];
    for (let at = node; at !== this.root; at = at.parent) tokens.unshift(at.token);
    return tokens;
  }

  /** The verified prefix moves (TRIE-8); the verdict took the first `accepted` tokens from its tree. Gives the origins. */
  advance(tokens, accepted) {
    const origins = tokens.map((token, i) => {
      const next = this.root.children.get(token);
      for (const child of this.root.children.values()) if (child !== next) this.#drop(child, 'wrong');
      const old = this.root;
      this.history.grow([token]);
      this.nodes.delete(key(old.digest));
      if (!next) {
        this.root = { position: old.position + 1, digest: this.history.digest, children: new Map() };
        this.nodes.set(key(this.root.digest), this.root);
        return null;
      }
      this.root = next;
      if (i < accepted) {
        this.book(next.source).accepted += 1;
        return next.source;
      }
      this.#spoil(next.source, 'late');
      return null;
    });
    for (const node of this.nodes.values()) node.flying = false;
    this.#retryParked();
    return origins;
  }

  #drop(node, name) {
    for (const child of node.children.values()) this.#drop(child, name);
    this.nodes.delete(key(node.digest));
    this.#spoil(node.source, name);
  }

  /** The session is over. */
  end() {
    for (const child of this.root.children.values()) this.#drop(child, 'unverified');
    this.root.children.clear();
    for (const { source, tokens } of this.parked.splice(0)) this.#spoil(source, 'unverified', tokens.length);
  }

  /** TRIE-9, for each drafter: drafted = accepted + waste + live + parked. */
  accounts() {
    const books = {};
    for (const [source, book] of this.books) books[source] = { ...book, live: 0, parked: 0 };
    for (const node of this.nodes.values()) if (node !== this.root) books[node.source].live += 1;
    for (const { source, tokens } of this.parked) books[source].parked += tokens.length;
    return books;
  }

  total() {
    const sum = { drafted: 0, accepted: 0, waste: WASTE.map(() => 0) };
    for (const book of this.books.values()) {
      sum.drafted += book.drafted;
      sum.accepted += book.accepted;
      book.waste.forEach((count, i) => (sum.waste[i] += count));
    }
    return sum;
  }
}
