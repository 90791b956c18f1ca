// A leader's side of a commit channel: over a link, or to the voter of its own node.

import { CommitPlane } from './planes.mjs';
import { ERROR_NAMES } from './registry.mjs';
import { refuse } from './refusal.mjs';

const PATIENCE_MS = 2000;

export class CommitSeat extends CommitPlane {
  constructor(session, member, fields, link) {
    super(fields);
    Object.assign(this, { session, member, fields, link });
  }

  open() {
    this.since = Date.now();
    if (!this.link.openChannel('ENLIST', this.fields, this)) return false;
    this.#wait();
    return true;
  }

  #wait() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refuse(refuse('COMPUTE_FAILED', 'Q-44', 'no answer for too long')), PATIENCE_MS);
  }

  in(name, fields) {
    super.in(name, fields);
    if (name === 'ENLISTED') {
      clearTimeout(this.timer);
      this.reported = fields;
      this.link.later(() => this.session.enlisted(this));
    }
    if (name === 'VOTE') {
      if (this.end !== undefined && fields.height >= this.end) clearTimeout(this.timer);
      this.link.later(() => this.session.voted(this, fields.height));
    }
    if (name === 'ERROR') this.why = refuse(ERROR_NAMES.get(fields.code) ?? 'INTERNAL', fields.clause, fields.text);
  }

  send(name, fields) {
    if (name === 'PREPARE') {
      if (!this.link.fits('PREPARE', fields)) return this.refuse(refuse('CONTEXT_TOO_LONG', 'Q-33', 'PREPARE is too long'));
      this.#wait();
    }
    return this.link.send(name, this.slot, fields);
  }

  refuse(refusal) {
    this.why ??= refusal;
    if (this.slot.state !== 'closed') this.link.refuse(refusal, this.slot.number);
  }

  lost() {
    clearTimeout(this.timer);
    setImmediate(() => this.session.seatGone(this, this.why));
  }
}

/** The same without frames in between. */
export class LocalSeat {
  constructor(session, member, fields, voter) {
    Object.assign(this, { session, member, fields, role: voter });
    this.name = `own ${++voter.count}`;
    this.from = voter.node.id;
  }

  get sessionId() {
    return this.session.id;
  }

  open() {
    this.#give('ENLIST', this.fields);
    return true;
  }

  #give(type, fields) {
    if (this.closed) return;
    const channel = { name: this.name, from: this.from, session: this.session.id, reply: (...answer) => this.#answer(...answer), refuse: (why) => this.#ended(why) };
    try {
      this.role.judge(channel, type, fields);
    } catch (refusal) {
      if (!refusal.code) throw refusal;
      this.#ended(refusal);
    }
    if (type === 'DISMISS') this.closed = true;
  }

  #answer(type, fields) {
    if (type === 'ENLISTED') this.reported = fields;
    setImmediate(() => {
      if (this.closed) return;
      if (type === 'ENLISTED') this.session.enlisted(this);
      else this.session.voted(this, fields.height);
    });
  }

  #ended(refusal) {
    if (this.closed) return;
    this.closed = true;
    setImmediate(() => this.session.seatGone(this, refusal));
  }

  send(type, fields) {
    this.#give(type, fields);
    if (type === 'DISMISS') this.role.lost({ name: this.name, session: this.session.id });
  }

  refuse(refusal) {
    if (this.closed) return;
    this.role.lost({ name: this.name, session: this.session.id });
    this.#ended(refusal);
  }
}
