// One view of a session under `quorum` at its leader (SPEC.md section 16.7): asks for promises, adopts the best log,
// proposes blocks, counts votes.

import { CommitSeat, LocalSeat } from './commit_seat.mjs';
import { Session } from './leading.mjs';
import { membersOf } from './messages.mjs';
import { Prefix } from './prefix.mjs';
import * as quorum from './quorum.mjs';
import { refuse } from './refusal.mjs';
import { DETACH, DISMISS, FINISH } from './registry.mjs';
import { Trie } from './trie.mjs';

const RESIGN_MS = 3000;
const AGAIN_MS = 2000;
const AHEAD = 16;

export class QuorumSession extends Session {
  /** client: {fields, link} or null at a takeover, where open holds session, contract, max_drafters. */
  constructor(leader, client, { open, group, view = 0, known, onGone } = {}) {
    super(leader, client ?? { fields: { ...open, origins: 0 } });
    if (!client) this.client = null;
    this.group = group;
    this.members = membersOf(group);
    this.view = view;
    this.own = this.members.findIndex((id) => id.equals(leader.node.id));
    this.known = known ?? []; // tokens known to be committed when this view began
    this.onGone = onGone;
    this.seats5 = new Map(); // member number to its commit channel
    this.votes = new Map();
    this.blocks = []; // of this view, not committed yet: {height, position, end, digest, finish, origins}
    this.committedEnd = this.prompt + this.known.length;
    this.notBefore = new Map();
  }

  get majority() {
    return quorum.majorityOf(this.members.length);
  }

  // --- promises ---

  start() {
    if (!this.finished) {
      const [offer] = this.candidates();
      if (!offer) return this.resign('VERIFIER_LOST');
      const { name, profile, profile_text: text } = offer.model;
      const zero = Buffer.alloc(32);
      this.model = { name, profile: profile ?? zero, profile_text: text ?? '', claimed: Boolean(profile) };
      if (this.client) super.start();
    }
    this.members.forEach((_, number) => this.#enlist(number));
    this.#watch();
    return undefined;
  }

  #enlisting() {
    const { session, contract, max_drafters: drafters } = this.open;
    const { name: model, profile, profile_text: text } = this.model;
    const committed = this.prompt + this.known.length;
    const { group, view } = this;
    return { session, contract, group, view, committed, model, profile, profile_text: text, max_drafters: drafters };
  }

  #enlist(number) {
    if (this.over || this.seats5.has(number)) return;
    if (number === this.own) return;
    if ((this.notBefore.get(number) ?? 0) > Date.now()) return;
    const link = this.leader.linkTo(this.members[number]);
    if (!link) return;
    const seat = new CommitSeat(this, number, this.#enlisting(), link);
    this.seats5.set(number, seat);
    if (!seat.open()) this.seats5.delete(number);
  }

  /** A voter answered. */
  enlisted(seat) {
    if (this.over) return;
    const report = seat.reported;
    if (report.committed > report.position || (this.chain && !this.#holds(report))) {
      seat.refuse(refuse('LEDGER_MISMATCH', 'Q-31', 'a report that does not fit'));
      return;
    }
    const answered = [...this.seats5.values()].filter((one) => one.reported);
    if (!this.seats5.has(this.own) && answered.length >= this.majority - 1) {
      const own = new LocalSeat(this, this.own, this.#enlisting(), this.leader.node.roles.voter);
      this.seats5.set(this.own, own);
      own.open();
      return; // it answers at once, and comes through here itself
    }
    this.#watch();
    if (this.chain) return this.#catchUp(seat);
    this.#adopt(answered);
    return undefined;
  }

  #holds({ committed, position }) {
    return committed <= this.chain.prefix.position && position >= 0;
  }

  #adopt(seats) {
    const reports = seats.map((seat) => ({ member: seat.member, enlisted: seat.reported }));
    const terms = { contract: this.contract, committed: this.known, n: this.members.length, own: this.own, reports };
    let chain;
    try {
      chain = quorum.adopt(terms);
    } catch (refusal) {
      if (!refusal.code) throw refusal;
      seats.find((seat) => seat.member === refusal.member)?.refuse(refusal);
      this.resign('QUORUM_LOST');
      return;
    }
    if (!chain) return;
    this.chain = { prefix: chain.prefix, height: chain.height, finish: chain.finish };
    this.adopted = chain.prefix.position;
    this.prefix = Prefix.ofContract(this.contract, chain.prefix.tokensFrom(this.prompt));
    this.sent = Math.max(this.sent, this.committedEnd);
    if (chain.again) {
      this.trie = new Trie(this.prefix.position, this.prefix.digest, { maxNodes: 1024, maxAhead: 256, maxParked: 8 });
      const { height, prefix, finish } = this.chain;
      this.blocks.push({ height, position: this.committedEnd, end: prefix.position, digest: prefix.digest, finish });
      this.#proposeAll();
    }
    if (this.client) this.#maybeOpen();
    else if (this.chain.finish === undefined) {
      this.sent = this.prefix.position;
      super.start();
    }
  }

  // OPENED waits for promises and verifier both.
  assigned(seat, fields) {
    clearTimeout(this.deadline);
    this.deadline = null;
    this.assignedAs = fields;
    if (this.client) this.#maybeOpen();
    else this.opened = true;
    this.round();
  }

  #maybeOpen() {
    if (this.opened || !this.chain || !this.assignedAs) return;
    this.opened = true;
    const { model, profile, profile_text: text } = this.assignedAs;
    const { group, view } = this;
    this.toClient('OPENED', { position: this.prompt, model, profile, profile_text: text, group, view });
    this.round();
  }

  round() {
    if (!this.chain || this.blocks.length >= AHEAD || this.chain.finish !== undefined) return;
    super.round();
  }

  // --- blocks ---

  commit({ position, tokens, origins, finish }) {
    const { chain } = this;
    chain.prefix.grow(tokens);
    chain.height += 1;
    chain.finish = finish;
    const { prefix, height } = chain;
    this.blocks.push({ height, position, end: prefix.position, digest: prefix.digest, finish, origins });
    this.#proposeAll();
    if (finish !== undefined) {
      this.verifier?.release();
      for (const seat of this.seats) seat.detach(DETACH.SESSION_ENDED);
    }
  }

  #proposeAll() {
    for (const seat of [...this.seats5.values()]) if (seat.reported) this.#propose(seat);
  }

  /** */
  #propose(seat) {
    if (this.over || seat.end === this.chain.height) return;
    const { prefix, height, finish } = this.chain;
    const from = seat.end === undefined ? seat.reported.committed : seat.at;
    seat.end = height;
    seat.at = prefix.position;
    const fields = quorum.firstPrepare(this.view, { prefix, height, finish }, from);
    seat.send('PREPARE', fields);
  }

  #catchUp(seat) {
    if (!this.blocks.length && !this.committedHeight) return;
    this.#propose(seat);
    if (this.lastCommit) seat.send('COMMIT', this.lastCommit);
  }

  voted(seat, height) {
    if (this.over) return;
    this.votes.set(seat.member, Math.max(height, this.votes.get(seat.member) ?? 0));
    const { height: reached } = quorum.committedHeight(this.members.length, [...this.votes.values()]);
    const done = this.blocks.filter((block) => block.height <= reached);
    if (!done.length) return;
    this.blocks = this.blocks.filter((block) => block.height > reached);
    const last = done.at(-1);
    this.committedHeight = last.height;
    this.committedEnd = last.end;
    this.lastCommit = { view: this.view, height: last.height, position: last.end, digest: last.digest };
    for (const block of done) this.#deliverBlock(block);
    for (const one of [...this.seats5.values()]) if (one.end !== undefined && !this.over) one.send('COMMIT', this.lastCommit);
    if (last.finish !== undefined) this.#complete(last);
    else this.round();
  }

  #deliverBlock({ position, end, origins, finish }) {
    const tokens = this.prefix.tokensFrom(position, end);
    if (!this.client) return;
    this.deliver({ position, tokens, origins: origins ?? tokens.map(() => null) });
    if (finish !== undefined) this.end(finish);
  }

  // END first, then COMMIT, then DISMISS.
  end(finish) {
    this.trie.end();
    const fields = { finish, position: this.sent, digest: this.prefix.digestAt(this.sent), stats: this.stats() };
    this.toClient('END', fields);
  }

  #complete(last) {
    for (const [number, seat] of [...this.seats5]) {
      const voted = (this.votes.get(number) ?? 0) >= last.height;
      seat.send('DISMISS', { reason: voted ? DISMISS.SESSION_ENDED : DISMISS.RESIGNED });
    }
    this.letGo(DETACH.SESSION_ENDED);
  }

  /** */
  closed() {
    if (this.over) return;
    if (!this.opened) {
      this.dismissAll(DISMISS.SESSION_ENDED);
      super.end(FINISH.CLOSED);
      return;
    }
    this.closing = true;
    if (this.chain.finish !== undefined) return;
    const { verifier } = this;
    this.verifier = null;
    verifier?.release();
    this.commit({ position: this.chain.prefix.position, tokens: [], origins: [], finish: FINISH.CLOSED });
  }

  verdict(path, tokens, finish) {
    if (!this.closing) super.verdict(path, tokens, finish);
  }

  assign() {
    if (!this.closing && this.chain?.finish === undefined) super.assign();
  }

  // --- losses ---

  seatGone(seat, refusal) {
    if (this.seats5.get(seat.member) !== seat) return;
    this.seats5.delete(seat.member);
    if (this.over) return;
    if (refusal?.code === 'VIEW_STALE') return this.resign('VIEW_STALE');
    if (seat.member === this.own) return this.resign('QUORUM_LOST');
    // once per patience, counted from the ENLIST before.
    const wait = refusal ? Math.max(seat.since + AGAIN_MS - Date.now(), 0) : 0;
    this.notBefore.set(seat.member, Date.now() + wait);
    if (refusal?.code !== 'SESSION_UNKNOWN') this.#later(() => this.#enlist(seat.member), wait);
    this.#watch();
    return undefined;
  }

  #later(action, wait) {
    const timer = setTimeout(action, wait + 1);
    this.timers ??= [];
    this.timers.push(timer);
  }

  // a majority of voters enlisted.
  #watch() {
    const enlisted = [...this.seats5.values()].filter((seat) => seat.reported).length;
    if (enlisted >= this.majority) {
      clearTimeout(this.resignation);
      this.resignation = null;
    } else this.resignation ??= setTimeout(() => this.resign('QUORUM_LOST'), RESIGN_MS);
  }

  resign(why) {
    if (this.over) return;
    const early = !this.opened && this.view === 0;
    this.dismissAll(early ? DISMISS.SESSION_ENDED : DISMISS.RESIGNED);
    const code = why === 'QUORUM_LOST' && !this.opened ? 'QUORUM_UNAVAILABLE' : why;
    super.fail(refuse(code, 'Q-43', 'the leader gives the view up'));
  }

  dismissAll(reason) {
    const seats = [...this.seats5.values()];
    this.seats5.clear();
    for (const seat of seats) seat.send('DISMISS', { reason });
  }

  fail(refusal) {
    if (this.over) return;
    if (!this.opened && this.client) {
      this.dismissAll(DISMISS.SESSION_ENDED);
      super.fail(refusal);
    } else this.resign(refusal.code === 'VERIFIER_LOST' ? 'VERIFIER_LOST' : 'QUORUM_LOST');
  }

  clientLost() {
    this.client = null; // L-14: the session goes on to its end
  }

  linkUp(link) {
    super.linkUp(link);
    const number = this.members.findIndex((id) => id.equals(link.peer));
    if (number >= 0 && !this.over) {
      this.notBefore.delete(number);
      this.#enlist(number);
    }
  }

  letGo(reason) {
    clearTimeout(this.resignation);
    for (const timer of this.timers ?? []) clearTimeout(timer);
    super.letGo(reason);
    this.onGone?.();
  }

  stop() {
    this.dismissAll(DISMISS.RESIGNED);
    super.stop();
  }
}
