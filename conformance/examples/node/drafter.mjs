// The role drafter on TM-1 (SPEC.md section 12): one chain ahead of the announced prefix, as far as the credit goes.

import { siblings } from './coupled.mjs';
import { DraftPlane } from './planes.mjs';
import { digestAfter, short } from './prefix.mjs';
import { refuse } from './refusal.mjs';
import { contextOf, offer, row, step } from './tm1.mjs';
import { checkContract } from './verifier.mjs';

const MAX_SESSIONS = 256; // D-2

class Session extends DraftPlane {
  constructor(drafter, fields, link) {
    super(fields, link.connection);
    this.drafter = drafter;
    this.link = link;
    this.window = fields.window;
    this.ahead = []; // own nodes below the announced prefix, a chain
    this.fields = fields;
  }

  in(name, fields) {
    if (name === 'ATTACH') this.drafter.check(this, fields);
    const before = this.channel.verified.position;
    super.in(name, fields);
    if (name === 'ATTACH') this.link.later(() => this.drafter.admit(this));
    if (name === 'ADVANCE') {
      this.window = fields.window ?? this.window;
      this.#moved(this.channel.verified.tokensFrom(before));
      this.link.later(() => this.drafter.wake(this));
    }
  }

  // D-16: what hangs below the new prefix stays.
  #moved(path) {
    this.context = contextOf(path, this.context);
    const stays = path.every((token, i) => this.ahead[i] === token);
    this.ahead = stays ? this.ahead.slice(path.length) : [];
  }

  lost() {
    this.drafter.sessions.delete(this);
  }
}

export class Drafter {
  constructor({ model, maxContext }) {
    Object.assign(this, { model, maxContext });
    this.sessions = new Set();
  }

  modelOffer() {
    const { vocabulary_size: size, vocabulary_digest: digest } = offer(this.model);
    return { role: 3, name: this.model.name, vocabulary_size: size, vocabulary_digest: digest, max_context: this.maxContext };
  }

  makePlane(channel, link) {
    return new Session(this, channel.fields, link);
  }

  check(session, { contract }) {
    checkContract(contract, this.model);
    const { position } = session.channel.verified;
    if (position >= this.maxContext) throw refuse('CONTEXT_TOO_LONG', 'D-2', `${position} of ${this.maxContext}`);
    if (this.sessions.size >= MAX_SESSIONS) throw refuse('OVERLOADED', 'D-2', `${this.sessions.size} sessions`);
  }

  admit(session) {
    this.sessions.add(session);
    session.slot = [...session.link.connection.channels.values()].find((channel) => channel.plane === session);
    session.context = contextOf(session.channel.verified.tokens);
    session.link.send('ATTACHED', session.slot, { model: this.model.name });
    this.wake(session);
  }

  wake(session) {
    if (session.waking) return;
    session.waking = true;
    setImmediate(() => {
      session.waking = false;
      if (this.sessions.has(session)) this.#draft(session);
    });
  }

  // D-6, D-16, D-17. One PROPOSE at a time, so that an ADVANCE is heard in between.
  #draft(session) {
    const { channel, contract } = session;
    const room = session.credit - channel.outstanding;
    const base = channel.verified.position + session.ahead.length;
    const end = Math.min(contract.prompt.length + contract.max_tokens, this.maxContext);
    const tokens = [];
    let context = contextOf(session.ahead, session.context);
    let last = session.ahead.length ? session.ahead.at(-1) : channel.verified.tokens.slice(contract.prompt.length).at(-1);
    while (tokens.length < Math.min(room, session.window) && base + tokens.length < end) {
      if (contract.stop_tokens.includes(last)) break; // nothing below a stop token
      [last] = siblings(row(this.model, context), contract.sampling, base + tokens.length, 1); // D-11
      tokens.push(last);
      context = step(context, last);
    }
    if (!tokens.length) return;
    const digest = digestAfter(channel.verified.digest, session.ahead);
    session.link.send('PROPOSE', session.slot, { position: base, base: short(digest), tokens });
    session.ahead.push(...tokens);
    this.wake(session);
  }
}
