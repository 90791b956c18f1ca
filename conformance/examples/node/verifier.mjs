// The role verifier on TM-1 (SPEC.md section 14).

import { VerifyPlane } from './planes.mjs';
import { refuse } from './refusal.mjs';
import { finishOf } from './stream.mjs';
import { contextOf, offer } from './tm1.mjs';
import { walk } from './verifying.mjs';

const MAX_SESSIONS = 64; // V-9
const ROUND_SESSIONS = 32; // in one "forward pass" (V-7)

/** What drafters and verifiers refuse alike (S-3, S-4). */
export function checkContract(contract, m) {
  const { method } = contract.sampling;
  if (method !== 0) throw refuse('METHOD_UNSUPPORTED', 'S-4', `method ${method}`);
  const mine = offer(m);
  const digest = contract.vocabulary_digest;
  if (contract.vocabulary_size !== m.v || !digest.equals(mine.vocabulary_digest)) {
    const text = `${contract.vocabulary_size} ${digest.toString('hex')}, here ${m.v} ${mine.vocabulary_digest.toString('hex')}`;
    throw refuse('VOCABULARY_MISMATCH', 'S-3', text);
  }
}

class Session extends VerifyPlane {
  constructor(verifier, fields, link) {
    super(fields, link.connection);
    this.verifier = verifier;
    this.link = link;
  }

  in(name, fields) {
    if (name === 'ASSIGN') this.verifier.check(fields, this.prefix);
    super.in(name, fields);
    if (name === 'ASSIGN') this.link.later(() => this.verifier.admit(this));
    if (name === 'VERIFY') this.verifier.enqueue(this);
  }

  lost() {
    this.verifier.forget(this); // V-12
  }
}

export class Verifier {
  constructor({ target, maxNodes, maxContext }) {
    Object.assign(this, { target, maxNodes, maxContext });
    this.offer = offer(target);
    this.sessions = new Set();
    this.queue = [];
  }

  modelOffer() {
    return { role: 4, name: this.target.name, max_context: this.maxContext, ...this.offer };
  }

  makePlane(channel, link) {
    return new Session(this, channel.fields, link);
  }

  check({ contract, model }, prefix) {
    const { target } = this;
    checkContract(contract, target);
    for (const name of [contract.model, model]) {
      if (name && name !== target.name) throw refuse('MODEL_UNAVAILABLE', 'S-5', `${name}; here is ${target.name}`);
    }
    if (contract.profile && !contract.profile.equals(this.offer.profile)) throw refuse('PROFILE_MISMATCH', 'S-6', 'another profile');
    if (prefix.position >= this.maxContext) throw refuse('CONTEXT_TOO_LONG', 'S-7', `${prefix.position} of ${this.maxContext}`);
    const first = contract.prompt.length;
    const ended = prefix.tokensFrom(first).some((token, i) => finishOf(contract, Infinity, first + i + 1, token) !== undefined);
    if (ended) throw refuse('CONTRACT_INVALID', 'V-9', 'the prefix has ended already');
    if (this.sessions.size >= MAX_SESSIONS) throw refuse('OVERLOADED', 'V-9', `${this.sessions.size} sessions`);
  }

  admit(session) {
    this.sessions.add(session);
    session.channel = [...session.link.connection.channels.values()].find((channel) => channel.plane === session);
    session.context = contextOf(session.prefix.tokens);
    const { profile, profile_text: text } = this.offer;
    const { maxNodes, maxContext } = this;
    const fields = { model: this.target.name, profile, profile_text: text, max_nodes: maxNodes, max_context: maxContext };
    session.link.send('ASSIGNED', session.channel, fields);
  }

  forget(session) {
    this.sessions.delete(session);
    this.queue = this.queue.filter((waiting) => waiting !== session);
  }

  enqueue(session) {
    session.since = performance.now();
    this.queue.push(session);
    if (this.queue.length === 1) setImmediate(() => this.#pass());
  }

  // V-7: in the order of their arrival.
  #pass() {
    const batch = this.queue.splice(0, ROUND_SESSIONS);
    const rows = batch.reduce((sum, session) => sum + session.verify.tokens.length + 1, 0);
    const start = performance.now();
    const answers = batch.map((session) => {
      const { position, digest } = session.prefix;
      const base = { position, digest, context: session.context };
      return walk(this.target, session.contract, base, this.maxContext, session.verify);
    });
    const compute = Math.round((performance.now() - start) * 1000);
    batch.forEach((session, i) => {
      session.context = answers[i].context;
      const queue = Math.round((start - session.since) * 1000);
      session.link.send('VERDICT', session.channel, { ...answers[i].verdict, compute_us: compute, rows, queue_us: queue });
    });
    if (this.queue.length) setImmediate(() => this.#pass());
  }
}
