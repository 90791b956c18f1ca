// A voter (SPEC.md sections 16.5, 16.6): one ledger for each session. It knows channels by any name that its caller
// gives them, sends nothing itself, and says what is to be sent: [{channel, type, fields}] or {channel, refusal}.

import { encodeContract, membersOf } from './messages.mjs';
import { Prefix } from './prefix.mjs';
import { refuse } from './refusal.mjs';
import { DISMISS } from './registry.mjs';

const mismatch = (clause, text) => refuse('LEDGER_MISMATCH', clause, text);

export class Ledger {
  constructor({ session, contract, group }) {
    this.session = session;
    this.contract = contract;
    this.group = group;
    this.log = Prefix.ofContract(contract);
    this.committed = this.log.position; // the prompt is there from the beginning
    this.label = [0, 0]; // view and height of the log's last block
    this.finish = undefined;
    this.ended = false; // `finish` is committed
    this.promised = -1;
    this.channel = null;
  }

  get prompt() {
    return this.contract.prompt.length;
  }

  promise(fields) {
    this.promised = fields.view;
    this.source = { model: fields.model, profile: fields.profile, profile_text: fields.profile_text };
    this.maxDrafters = fields.max_drafters ?? 0;
  }

  /** */
  report(from) {
    return {
      view: this.label[0],
      height: this.label[1],
      committed: this.committed,
      position: this.log.position,
      digest: this.log.digest,
      tokens: from < this.log.position ? this.log.tokensFrom(from) : [],
      finish: this.finish,
    };
  }

  /** gives the VOTE. */
  prepare({ view, height, position, base, tokens, digest, finish }) {
    if (view !== this.promised) throw mismatch('Q-21', `view ${view}, promised is ${this.promised}`);
    const { log } = this;
    if (position < this.prompt || position > log.position || !log.digestAt(position).equals(base)) {
      throw mismatch('Q-22', `base at ${position} is no prefix of the log, which ends at ${log.position}`);
    }
    if (tokens.some((token) => token >= this.contract.vocabulary_size)) throw mismatch('Q-25', 'a token outside the vocabulary');
    const after = new Prefix(base, position);
    after.grow(tokens);
    if (!after.digest.equals(digest)) throw mismatch('Q-25', 'the digest is not that of base and tokens');
    const vote = { view, height, digest };
    if (view === this.label[0] && height <= this.label[1]) {
      const held = log.knows(after.position) && log.digestAt(after.position).equals(digest);
      if (!held) throw mismatch('Q-23', 'another block of a height that is there already');
      return vote;
    }
    const kept = after.position >= this.committed && (position >= this.committed ||
      after.digestAt(this.committed).equals(log.digestAt(this.committed)));
    if (!kept) throw mismatch('Q-22', `tokens up to ${this.committed} are committed`);
    if (this.ended && (after.position !== this.committed || finish !== this.finish)) {
      throw mismatch('Q-25', 'the stream has ended');
    }
    log.cut(position);
    log.grow(tokens);
    this.label = [view, height];
    this.finish = finish;
    return vote;
  }

  /** */
  commit({ view, height, position, digest }) {
    if (view !== this.promised) throw mismatch('Q-21', `view ${view}, promised is ${this.promised}`);
    const held = position >= this.prompt && position <= this.log.position && this.log.digestAt(position).equals(digest);
    const [v, h] = this.label;
    if (!held || v < view || (v === view && h < height)) throw mismatch('Q-39', 'a block that the log does not hold');
    this.committed = Math.max(this.committed, position);
    if (this.finish !== undefined && height === h && position === this.log.position) this.ended = true;
  }
}

export class Voter {
  constructor(own) {
    this.own = own;
    this.ledgers = new Map();
    this.forgotten = new Set();
    this.channels = new Map(); // open commit channels: name to {ledger, view}
  }

  #close(channel) {
    const entry = this.channels.get(channel);
    if (!entry) return;
    this.channels.delete(channel);
    if (entry.ledger.channel === channel) entry.ledger.channel = null;
  }

  lost(channel) {
    this.#close(channel);
  }

  forget(ledger) {
    const id = ledger.session.toString('hex');
    this.ledgers.delete(id);
    this.forgotten.add(id);
  }

  /** What one message brings about. from: the authenticated node id. */
  take(channel, from, type, fields) {
    try {
      if (type === 'ENLIST') return this.#enlist(channel, from, fields);
      const entry = this.channels.get(channel);
      if (!entry) return []; // closed: it crossed the closing (CH-4)
      if (type === 'PREPARE') return [{ channel, type: 'VOTE', fields: entry.ledger.prepare(fields) }];
      if (type === 'COMMIT') entry.ledger.commit(fields);
      if (type === 'DISMISS') this.#dismiss(channel, entry.ledger, fields.reason);
      return [];
    } catch (refusal) {
      if (!refusal.code) throw refusal;
      this.#close(channel);
      return [{ channel, type: 'ERROR', refusal }];
    }
  }

  /** What refuses an ENLIST; gives the ledger, if there is one. */
  check(from, fields) {
    const { session, group, view } = fields;
    const id = session.toString('hex');
    if (this.forgotten.has(id)) throw refuse('SESSION_UNKNOWN', 'Q-63', 'a session that was forgotten');
    const members = membersOf(group);
    if (!members[view % members.length].equals(from)) throw mismatch('Q-11', `view ${view} is not the sender's`);
    if (!members.some((member) => member.equals(this.own))) throw mismatch('Q-11', 'this node is not in the group');
    if (fields.committed < fields.contract.prompt.length) throw mismatch('Q-17', 'committed lies within the prompt');
    const ledger = this.ledgers.get(id);
    if (!ledger) return null;
    if (!encodeContract(ledger.contract).equals(encodeContract(fields.contract))) throw mismatch('Q-12', 'another contract');
    if (!ledger.group.equals(group)) throw mismatch('Q-12', 'another group');
    if (view < ledger.promised) throw refuse('VIEW_STALE', 'Q-13', `view ${ledger.promised} is promised`);
    if (view === ledger.promised && from.equals(this.own)) throw refuse('VIEW_STALE', 'Q-15', `view ${view} was promised before`);
    if (view > ledger.promised && ledger.channel !== null) {
      throw refuse('LEADER_ALIVE', 'Q-14', `the leader of view ${ledger.promised} is connected`);
    }
    return ledger;
  }

  #enlist(channel, from, fields) {
    const sent = [];
    const known = this.check(from, fields);
    const ledger = known ?? new Ledger(fields);
    this.ledgers.set(fields.session.toString('hex'), ledger);
    if (ledger.channel !== null) {
      const refusal = refuse('SESSION_EXISTS', 'Q-16', 'the leader has a newer channel');
      sent.push({ channel: ledger.channel, type: 'ERROR', refusal });
      this.#close(ledger.channel);
    }
    ledger.promise(fields);
    ledger.channel = channel;
    this.channels.set(channel, { ledger });
    sent.push({ channel, type: 'ENLISTED', fields: ledger.report(fields.committed) });
    return sent;
  }

  #dismiss(channel, ledger, reason) {
    this.#close(channel);
    if (reason === DISMISS.SESSION_ENDED && ledger.label[1] === 0) this.forget(ledger);
  }
}
