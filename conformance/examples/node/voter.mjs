// The role voter (SPEC.md sections 16.3 to 16.10): ledgers on disk, suspicion, and readers that resume.

import { Voter } from './ledger.mjs';
import { membersOf } from './messages.mjs';
import { CommitPlane } from './planes.mjs';
import { turn } from './quorum.mjs';
import { Reader } from './reader.mjs';
import { refuse } from './refusal.mjs';
import { Store } from './store.mjs';

const SUSPICION_MS = 300; // Q-41, times d
const BACKOFF_MS = 5000; // the bound, times d
const RETENTION_MS = 600000;
const MAX_LEDGERS = 1024;

class Channel extends CommitPlane {
  constructor(role, fields, link, name) {
    super(fields, (type, message) => role.judge(this, type, message));
    Object.assign(this, { role, link, name, from: link.peer, session: fields.session.toString('hex') });
  }

  reply(type, fields) {
    this.link.later(() => this.link.send(type, this.link.connection.channels.get(this.number), fields));
  }

  refuse(refusal) {
    this.link.later(() => this.link.refuse(refusal, this.number));
  }

  lost() {
    this.role.lost(this);
  }
}

export class VoterRole {
  constructor(node, folder) {
    this.node = node;
    this.voter = new Voter(node.id);
    this.channels = new Map(); // by name: what answers there
    this.readers = new Set();
    this.suspicions = new Map(); // by session: {timer, tries}
    this.count = 0;
    this.store = new Store(folder);
    for (const record of this.store.load()) this.#again(record);
    for (const { channel } of this.voter.ledgers.values()) if (channel !== null) this.voter.lost(channel);
  }

  /** there is no leader after a restart. */
  start() {
    for (const session of this.voter.ledgers.keys()) this.#suspect(session);
  }

  // what was stored, in its order.
  #again({ type, session, from, fields }) {
    if (type === 'FORGET') {
      const ledger = this.voter.ledgers.get(session);
      if (ledger) this.voter.forget(ledger);
      return;
    }
    const name = type === 'ENLIST' ? `stored ${++this.count}` : this.voter.ledgers.get(session).channel;
    if (type === 'ENLIST') {
      const before = this.voter.ledgers.get(session)?.channel;
      if (before) this.voter.lost(before);
    }
    this.voter.take(name ?? '', from, type, fields);
  }

  makePlane(channel, link) {
    if (channel.opening === 'RESUME') return new Reader(this, channel.fields, link);
    const plane = new Channel(this, channel.fields, link, `channel ${++this.count}`);
    plane.number = channel.number;
    return plane;
  }

  /** One message of a leader, of this node or another: answers on the channel, or throws the refusal. */
  judge(channel, type, fields) {
    const { name, from, session } = channel;
    if (type === 'ERROR') return;
    const known = this.voter.ledgers.get(session);
    if (type === 'ENLIST') {
      if (!known && this.voter.ledgers.size >= MAX_LEDGERS) throw refuse('OVERLOADED', 'Q-63', 'too many sessions');
      const report = this.voter.check(from, fields)?.report(fields.committed);
      if (report && channel.link && !channel.link.fits('ENLISTED', report)) {
        throw refuse('CONTEXT_TOO_LONG', 'Q-17', 'the log is longer than the leader takes');
      }
      this.channels.set(name, channel);
    }
    const sent = this.voter.take(name, from, type, fields);
    const refused = sent.find((entry) => entry.refusal && entry.channel === name);
    if (refused) {
      this.channels.delete(name);
      this.#suspect(session);
      throw refused.refusal;
    }
    if (type === 'DISMISS') {
      if (!this.voter.ledgers.has(session)) this.#record('FORGET', session, from);
    } else this.#record(type, session, from, fields);
    for (const { channel: where, type: answer, fields: message, refusal } of sent) {
      const place = this.channels.get(where);
      if (refusal) place?.refuse(refusal);
      else place?.reply(answer, message);
    }
    if (type === 'ENLIST') this.#calm(session, false);
    if (type === 'PREPARE') this.#calm(session, true);
    this.changed(session);
  }

  #record(type, session, from, fields) {
    this.store.append({ type, session, from, fields });
  }

  lost(channel) {
    this.channels.delete(channel.name);
    this.voter.lost(channel.name);
    this.changed(channel.session);
    this.#suspect(channel.session);
  }

  /** Something new may be known to be committed. */
  changed(session) {
    const ledger = this.voter.ledgers.get(session);
    for (const reader of this.readers) if (reader.session === session) reader.serve(ledger);
    if (!ledger) return;
    clearTimeout(ledger.timer);
    ledger.timer = setTimeout(() => this.#expire(session), RETENTION_MS).unref();
  }

  #expire(session) {
    const ledger = this.voter.ledgers.get(session);
    const read = [...this.readers].some((reader) => reader.session === session);
    if (!ledger || read || (ledger.channel !== null && !ledger.ended)) return this.changed(session);
    this.#record('FORGET', session, this.node.id);
    this.voter.forget(ledger);
    return undefined;
  }

  // --- suspicion (Q-40 to Q-42) ---

  #calm(session, accepted) {
    const entry = this.suspicions.get(session);
    if (!entry) return;
    clearTimeout(entry.timer);
    entry.timer = null;
    if (accepted) this.suspicions.delete(session);
  }

  #suspect(session) {
    const ledger = this.voter.ledgers.get(session);
    const { leader } = this.node.roles;
    if (!ledger || !leader || ledger.channel !== null || ledger.ended || this.stopped) return;
    const entry = this.suspicions.get(session) ?? { timer: null, tries: 0 };
    this.suspicions.set(session, entry);
    if (entry.timer) return;
    const members = membersOf(ledger.group);
    const number = members.findIndex((id) => id.equals(this.node.id));
    const { distance, view } = turn(ledger.promised, number, members.length);
    const wait = Math.min(SUSPICION_MS * 2 ** entry.tries, BACKOFF_MS) * distance;
    entry.timer = setTimeout(() => {
      entry.timer = null;
      if (ledger.channel !== null || ledger.ended || !this.voter.ledgers.has(session)) return;
      const asked = view + entry.tries * members.length; // the next later view of this node
      entry.tries += 1;
      leader.takeOver(ledger, asked, () => this.#suspect(session));
    }, wait);
  }

  stop() {
    this.stopped = true;
    for (const { timer } of this.suspicions.values()) clearTimeout(timer);
    for (const ledger of this.voter.ledgers.values()) clearTimeout(ledger.timer);
  }
}
