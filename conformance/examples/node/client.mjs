// The role client (SPEC.md section 11): one session on every link whose peer has the role leader; under `quorum` it
// goes on at another member of the group when it is interrupted.

import crypto from 'node:crypto';
import { membersOf } from './messages.mjs';
import { SessionPlane } from './planes.mjs';
import { ERROR_NAMES } from './registry.mjs';
import { refuse } from './refusal.mjs';
import { offer } from './tm1.mjs';

const RESUME_MS = 200; // until the same member is asked once more
const SILENCE_MS = 4000; // from a voter
const GIVE_UP_MS = 60000;

class Channel extends SessionPlane {
  constructor(stream, link, opening, fields) {
    super(opening, fields, stream.contract);
    this.stream = stream;
    this.link = link;
    this.opening = opening;
  }

  in(name, fields) {
    if (name === 'END') return this.#atEnd(fields);
    super.in(name, fields);
    this.stream.heard(this, name, fields);
    return undefined;
  }

  // S-10: END has closed the channel, so a difference is told to the application alone.
  #atEnd(fields) {
    try {
      super.in('END', fields);
      this.stream.finished(this, fields.finish);
    } catch (refusal) {
      this.stream.broken(this, refusal.code);
    }
  }

  out(name, fields) {
    super.out(name, fields);
    if (name === 'ERROR') this.stream.broken(this, ERROR_NAMES.get(fields.code));
  }

  lost() {
    this.stream.broken(this, 'CONNECTION_LOST');
  }
}

class Stream {
  constructor(client, fields) {
    this.client = client;
    this.session = fields.session;
    this.contract = fields.contract;
    this.tokens = [];
    this.done = false;
  }

  outcome() {
    const { session, tokens, finish, error } = this;
    const failed = this.done || error ? error : undefined;
    return { session, tokens, finish, error: failed };
  }

  heard(channel, name, fields) {
    if (channel !== this.channel) return;
    if (name === 'OPENED') {
      this.answered = true;
      if (fields.group) Object.assign(this, { group: membersOf(fields.group), view: fields.view });
    }
    if (name === 'BLOCK') this.tokens.push(...fields.tokens);
    if (name === 'ERROR') this.broken(channel, ERROR_NAMES.get(fields.code) ?? String(fields.code));
    else this.#listen(channel);
  }

  finished(channel, finish) {
    if (channel !== this.channel) return;
    this.finish = finish;
    this.#over(undefined);
  }

  #over(error) {
    this.error = error;
    this.done = true;
    this.channel = null;
    clearTimeout(this.timer);
    clearTimeout(this.deadline);
  }

  /** Failed, or interrupted. */
  broken(channel, why) {
    if (channel !== this.channel || this.done) return;
    const asked = channel.opening === 'RESUME' && why === 'PREFIX_UNKNOWN' && !channel.answered;
    if (!this.group || asked) return this.#over(why);
    this.error = why;
    this.channel = null;
    this.last = channel.link.peer;
    this.deadline ??= setTimeout(() => this.#over(this.error), GIVE_UP_MS);
    clearTimeout(this.timer);
    setImmediate(() => this.resume(false));
    return undefined;
  }

  // The member whose turn is next first, the one that failed last.
  #members() {
    const n = this.group.length;
    const order = this.group.map((_, i) => this.group[(this.view + 1 + i) % n]);
    return [...order.filter((id) => !id.equals(this.last)), this.last];
  }

  resume(again) {
    if (this.channel || this.done || this.client.stopped) return;
    for (const id of this.#members()) {
      if (!again && id.equals(this.last)) continue;
      const link = this.client.linkTo(id);
      if (!link) continue;
      const prefix = this.prefix();
      const fields = { session: this.session, position: prefix.position, digest: prefix.digest };
      this.channel = new Channel(this, link, 'RESUME', fields);
      this.previous = this.channel;
      if (link.openChannel('RESUME', fields, this.channel)) return this.#listen(this.channel);
      this.channel = null;
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.resume(true), RESUME_MS);
    return undefined;
  }

  prefix() {
    return this.previous.prefix;
  }

  // turns away from a voter that says nothing.
  #listen(channel) {
    clearTimeout(this.timer);
    if (channel.opening !== 'RESUME') return;
    this.timer = setTimeout(() => {
      channel.link.refuse(refuse('COMPUTE_FAILED', 'Q-53', 'nothing came for too long'), channel.slot.number);
    }, SILENCE_MS);
  }
}

export class Client {
  constructor(node, target, session = {}) {
    this.node = node;
    this.target = target;
    this.settings = session;
    this.streams = [];
  }

  // IMPLEMENTERS.md: `quorum` where the leader is a voter, else `solo`.
  contract(link) {
    const { settings: s } = this;
    const usual = link.connection.peerHas('voter') ? 2 : 0;
    const { vocabulary_size: size, vocabulary_digest: digest } = offer(this.target);
    return {
      prompt: s.prompt ?? [11, 22, 33],
      sampling: {
        method: 0,
        temperature: s.temperature ?? 52429,
        top_k: s.top_k ?? 0,
        top_p: s.top_p ?? 65536,
        seed: BigInt(s.seed ?? 42),
      },
      max_tokens: s.max_tokens ?? 32,
      stop_tokens: s.stop_tokens ?? [0],
      vocabulary_size: size,
      vocabulary_digest: digest,
      model: this.target.name,
      commit_profile: s.commit_profile ?? usual,
    };
  }

  linkTo(id) {
    return [...this.node.links].find((link) => link.open && link.peer.equals(id) && link.connection.peerHas('voter'));
  }

  opened(link) {
    if (link.connection.peerHas('leader')) this.#open(link);
    for (const stream of this.streams) if (stream.group && !stream.channel) stream.resume(true);
  }

  #open(link) {
    const { max_drafters: drafters = 4, origins = 1 } = this.settings;
    const fields = { session: crypto.randomBytes(16), contract: this.contract(link), max_drafters: drafters, origins };
    const stream = new Stream(this, fields);
    stream.channel = new Channel(stream, link, 'OPEN', fields);
    stream.previous = stream.channel;
    this.streams.push(stream);
    if (!link.openChannel('OPEN', fields, stream.channel)) stream.broken(stream.channel, 'OVERLOADED');
  }

  stop() {
    this.stopped = true;
    for (const stream of this.streams) {
      clearTimeout(stream.timer);
      clearTimeout(stream.deadline);
    }
  }

  get busy() {
    return this.streams.some((stream) => !stream.done);
  }

  outcomes() {
    return this.streams.map((stream) => stream.outcome());
  }
}
