// One session at its leader, under `solo` (SPEC.md sections 13, 15 and 16.2).

import { DraftSeat } from './seat.mjs';
import { VerifySeat } from './assignment.mjs';
import { Prefix, short } from './prefix.mjs';
import { refuse } from './refusal.mjs';
import { DETACH, FINISH } from './registry.mjs';
import { Trie } from './trie.mjs';

const PATIENCE_MS = 10000; // L-4
const RETRY_MS = 100; // before a verifier that failed is asked again, when there is no other
const DRAFT_WAIT_MS = 20; // L-6: for a first draft
const MAX_SEATS = 16;
const BUDGET = 32; // nodes of one VERIFY

export class Session {
  constructor(leader, client) {
    const { fields } = client;
    this.leader = leader;
    this.client = client;
    this.id = fields.session.toString('hex');
    this.open = fields;
    this.contract = fields.contract;
    this.prefix = Prefix.ofContract(fields.contract); // the verified prefix
    this.prompt = fields.contract.prompt.length;
    this.trie = new Trie(this.prefix.position, this.prefix.digest, { maxNodes: 1024, maxAhead: 256, maxParked: 8 });
    this.seats = [];
    this.numbers = new Map(); // drafters by node id, as `origins` numbers them
    this.failed = new Map(); // verifier links that failed or refused: link to refusal
    this.sent = this.prefix.position; // end of the last BLOCK
    this.rounds = this.verified = 0;
  }

  get committed() {
    return this.prefix.tokensFrom(this.prompt);
  }

  start() {
    this.assign();
    for (const { link, fits } of this.leader.offering('drafter', this.contract)) if (fits) this.attach(link);
  }

  // --- verifier ---

  candidates() {
    const { contract, model } = this;
    const name = model?.name ?? contract.model;
    return this.leader
      .offering('verifier', contract)
      .filter((offer) => offer.fits && (!name || offer.model.name === name))
      .filter((offer) => !this.opened || !model.claimed || offer.model.profile?.equals(model.profile));
  }

  assign() {
    if (this.over || this.verifier) return;
    const all = this.candidates();
    const fresh = all.filter(({ link }) => !this.failed.has(link));
    const load = ({ link }) => [...this.leader.sessions.values()].filter((one) => one.verifier?.link === link).length;
    const suits = ({ model }) => (this.contract.profile && !model.profile?.equals(this.contract.profile) ? 1 : 0);
    fresh.sort((a, b) => suits(a) - suits(b) || load(a) - load(b));
    for (const { link, model } of fresh) {
      const fields = { session: this.open.session, contract: this.contract, committed: this.committed, model: model.name };
      const seat = new VerifySeat(this, fields, link);
      this.verifier = seat;
      if (seat.open()) return;
      this.verifier = null;
      this.failed.set(link, refuse('CONTEXT_TOO_LONG', 'L-11', 'ASSIGN is longer than the verifier takes'));
    }
    this.#nobody(all);
  }

  #nobody(all) {
    if (!this.opened) {
      const last = [...this.failed.values()].at(-1) ?? refuse('MODEL_UNAVAILABLE', 'L-3', 'no verifier is left');
      this.fail(last);
      return;
    }
    this.deadline ??= setTimeout(() => this.fail(refuse('VERIFIER_LOST', 'L-4', 'no verifier is left')), PATIENCE_MS);
    if (!all.length || this.retry) return;
    this.retry = setTimeout(() => {
      this.retry = null;
      this.failed.clear(); // L-9: there is no other
      this.assign();
    }, RETRY_MS);
  }

  /** ASSIGNED was taken. */
  assigned(seat, { model, profile, profile_text: text }) {
    clearTimeout(this.deadline);
    this.deadline = null;
    if (!this.opened) {
      this.opened = true;
      this.model = { name: model, profile, claimed: profile.some((byte) => byte) };
      this.toClient('OPENED', { position: this.prompt, model, profile, profile_text: text });
    }
    this.round();
  }

  verifierLost(seat, refusal) {
    if (this.verifier !== seat) return;
    this.verifier = null;
    this.failed.set(seat.link, refusal);
    setImmediate(() => this.assign());
  }

  // --- rounds ---

  /** The next VERIFY, once there is a draft or it has been waited for long enough. */
  round() {
    const seat = this.verifier;
    if (this.over || !this.opened || !seat?.idle) return;
    const hopeful = seat.assigned.max_nodes > 0 && this.seats.some((one) => one.hopeful);
    if (!this.trie.live && hopeful && !this.waited) {
      this.wait ??= setTimeout(() => {
        this.wait = null;
        this.waited = true;
        this.round();
      }, DRAFT_WAIT_MS);
      return;
    }
    clearTimeout(this.wait);
    this.wait = null;
    this.waited = false;
    const { max_nodes: most, max_context: context } = seat.assigned;
    const room = Math.min(this.prompt + this.contract.max_tokens, context) - this.prefix.position;
    const nodes = this.#tree(Math.min(most, BUDGET), room, seat);
    const number = new Map(nodes.map((node, i) => [node, i + 1]));
    const parents = nodes.map((node) => number.get(node.parent) ?? 0);
    const fields = {
      round: seat.round,
      position: this.prefix.position,
      base: short(this.prefix.digest),
      tokens: nodes.map((node) => node.token),
      parents: parents.every((parent, i) => parent === i) ? undefined : Buffer.from(parents),
    };
    this.verified += nodes.length;
    seat.ask(fields);
  }

  // TRIE-11; without TREES a chain (V-5).
  #tree(budget, depth, seat) {
    if (seat.connection.has('TREES')) return this.trie.choose(budget, depth);
    const chain = [];
    let at = this.trie.root;
    while (chain.length < Math.min(budget, depth) && at.children.size) {
      at = [...at.children.values()].reduce((a, b) => (b.cost < a.cost ? b : a));
      at.flying = true;
      chain.push(at);
    }
    return chain;
  }

  /** A VERDICT that holds together. */
  verdict(path, tokens, finish) {
    this.rounds += 1;
    const { position } = this.prefix;
    this.prefix.grow(tokens);
    const origins = this.trie.advance(tokens, path.length);
    for (const seat of this.seats) seat.advance(tokens, origins);
    this.commit({ position, tokens, origins, finish });
    if (!this.over && finish === undefined) this.round();
  }

  /** K-2, K-3: under `solo` the leader's memory is the store. */
  commit(block) {
    this.deliver(block);
  }

  deliver({ position, tokens, origins, finish }) {
    const fields = { position, tokens };
    if (this.open.origins && this.client.link.connection.has('ORIGINS')) this.#origins(fields, origins);
    if (tokens.length) this.toClient('BLOCK', fields);
    this.sent = position + tokens.length;
    if (finish !== undefined) this.end(finish);
  }

  // S-18.
  #origins(fields, origins) {
    const fresh = [];
    fields.origins = Buffer.from(
      origins.map((source) => {
        if (source === null) return 0;
        const known = this.numbers.get(source);
        if (known) return known;
        const seat = this.seats.find((one) => one.source === source);
        this.numbers.set(source, this.numbers.size + 1);
        fresh.push({ number: this.numbers.size, node_id: seat.link.peer, model: seat.model });
        return this.numbers.size;
      }),
    );
    if (fresh.length) fields.drafters = fresh;
  }

  // --- drafters ---

  /** L-12: one node at most once, no more at one time than the client allows. */
  attach(link) {
    if (this.over || this.seats.some((seat) => seat.source === link.peerName)) return;
    const limit = Math.min(this.open.max_drafters, MAX_SEATS);
    if (this.seats.filter((seat) => !seat.gone).length >= limit) return;
    const seat = new DraftSeat(this, link);
    if (link.openChannel('ATTACH', seat.opening, seat)) this.seats.push(seat);
  }

  seatLost() {
    setImmediate(() => {
      for (const { link, fits } of this.leader.offering('drafter', this.contract)) if (fits) this.attach(link);
    });
  }

  linkUp(link) {
    if (this.over) return;
    for (const offer of this.leader.offering('drafter', this.contract)) {
      if (offer.link === link && offer.fits) this.attach(link);
    }
    if (!this.verifier && this.opened) this.assign();
  }

  // --- the end ---

  toClient(name, fields) {
    if (this.client?.slot) this.client.link.send(name, this.client.slot, fields);
  }

  stats() {
    const { drafted, accepted, waste } = this.trie.total();
    return { rounds: this.rounds, drafted, verified: this.verified, accepted, waste };
  }

  end(finish) {
    this.trie.end();
    const at = this.sent;
    const fields = { finish, position: at, digest: this.prefix.digestAt(at), stats: this.stats() };
    this.letGo(DETACH.SESSION_ENDED);
    this.toClient('END', fields);
  }

  /** S-15. */
  closed() {
    if (!this.over) this.end(FINISH.CLOSED);
  }

  fail(refusal) {
    if (this.over) return;
    this.letGo(DETACH.SESSION_ENDED);
    if (this.client?.slot && this.client.slot.state !== 'closed') this.client.link.refuse(refusal, this.client.slot.number);
  }

  clientLost() {
    if (!this.over) this.letGo(DETACH.SESSION_ENDED); // L-14
  }

  /** L-13. */
  letGo(reason) {
    this.over = true;
    for (const timer of [this.deadline, this.retry, this.wait]) clearTimeout(timer);
    this.verifier?.release();
    for (const seat of this.seats) seat.detach(reason);
    this.leader.sessions.delete(this.id);
  }

  stop() {
    this.letGo(DETACH.LEAVING);
  }
}
