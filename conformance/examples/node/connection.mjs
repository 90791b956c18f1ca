// One connection as the node at one end sees it (SPEC.md section 9): states, channels, who may say what. No network in
// here. What a plane demands beyond that is the business of the plane's own object (planes.mjs), which `makePlane`
// makes for each channel: {in(name, fields), out(name, fields), lost()}.

import * as cbor from './cbor.mjs';
import { read } from './messages.mjs';
import { agree, checkKnown } from './negotiate.mjs';
import { FEATURES, HANDSHAKE_PAYLOAD, ROLES } from './registry.mjs';
import { Refusal, refuse, scopeOf } from './refusal.mjs';
import { TYPES } from './tables.mjs';

// Section 9.2: opening message to opener, answerer, answer, closing message.
export const OPENINGS = {
  OPEN: { plane: 'session', opener: 'client', answerer: 'leader', answer: 'OPENED', closing: 'END' },
  RESUME: { plane: 'session', opener: 'client', answerer: 'voter', answer: 'OPENED', closing: 'END' },
  ATTACH: { plane: 'draft', opener: 'leader', answerer: 'drafter', answer: 'ATTACHED', closing: 'DETACH' },
  ASSIGN: { plane: 'verify', opener: 'leader', answerer: 'verifier', answer: 'ASSIGNED', closing: 'RELEASE' },
  ENLIST: { plane: 'commit', opener: 'leader', answerer: 'voter', answer: 'ENLISTED', closing: 'DISMISS' },
};
const OPENING_TYPES = new Set(Object.keys(OPENINGS).map((name) => TYPES[name].type));
const EARLY = new Set([TYPES.HELLO.type, TYPES.READY.type, TYPES.ERROR.type]);
const FEATURE_FIELDS = {
  PROPOSE: { parents: 'TREES', scores: 'SCORES' },
  VERIFY: { parents: 'TREES' },
  BLOCK: { origins: 'ORIGINS', drafters: 'ORIGINS' },
};

const unexpected = (clause, text, scope) => refuse('MESSAGE_UNEXPECTED', clause, text, scope);

export class Connection {
  /** side: dialer or acceptor. own, peer: node ids, that of the peer as TLS proved it. */
  constructor(side, own, peer, makePlane) {
    this.side = side;
    this.own = own;
    this.peer = peer;
    this.makePlane = makePlane;
    this.hello = { in: null, out: null };
    this.ready = { in: false, out: false };
    this.closed = false;
    this.channels = new Map();
    this.highest = { in: 0, out: 0 };
    this.pings = new Set();
    this.statuses = 0;
    this.agreed = null;
  }

  get open() {
    return this.ready.in && this.ready.out && !this.closed;
  }

  /** F-2: how long a payload may be that comes in. */
  get limit() {
    return this.ready.in ? this.hello.out.fields.limits.max_payload : HANDSHAKE_PAYLOAD;
  }

  has(feature) {
    return Boolean(this.agreed?.features.includes(FEATURES[feature]));
  }

  peerHas(role) {
    return Boolean(this.hello.in?.fields.roles.includes(ROLES[role]));
  }

  ownHas(role) {
    return Boolean(this.hello.out?.fields.roles.includes(ROLES[role]));
  }

  // CH-1: the direction in which channels of this number are opened.
  #opens(number) {
    return (number % 2 === 1) === (this.side === 'dialer') ? 'out' : 'in';
  }

  #isClosed(number) {
    if (!number) return false;
    const channel = this.channels.get(number);
    return channel ? channel.state === 'closed' : number <= this.highest[this.#opens(number)];
  }

  /** The next free number for a channel of one's own (CH-1, CH-2). */
  nextChannel() {
    const first = this.side === 'dialer' ? 1 : 2;
    return this.highest.out ? this.highest.out + 2 : first;
  }

  get openedByPeer() {
    return [...this.channels.values()].filter((channel) => channel.by === 'in' && channel.state !== 'closed').length;
  }

  /** A frame that came in: {name, fields, fate, channel}; or a Refusal that knows its channel, and nothing is closed. */
  receive({ type, channel: number, payload }) {
    try {
      return this.#judge(type, number, payload);
    } catch (refusal) {
      if (!(refusal instanceof Refusal)) throw refusal;
      const known = this.channels.has(number) || (OPENING_TYPES.has(type) && number > 0);
      refusal.channel = scopeOf(refusal, known ? number : 0) === 'session' ? number : 0;
      refusal.type ??= type;
      throw refusal;
    }
  }

  // A channel that was refused before it was opened counts as closed (CH-4).
  #refused(number) {
    if (this.#opens(number) === 'in') this.highest.in = Math.max(this.highest.in, number);
  }

  #judge(type, number, payload) {
    if (!(this.ready.in && this.ready.out) && !EARLY.has(type)) {
      throw unexpected('C-4', `type 0x${type.toString(16)} before READY went both ways`, 'connection');
    }
    if (this.#isClosed(number) && !OPENING_TYPES.has(type)) {
      cbor.decodeMap(payload); // CH-4: still one item
      return { name: null, fate: 'dropped' };
    }
    const { name, fields } = read(type, payload);
    if (!name) return { name, fate: 'ignored' };
    if ((name === 'HELLO' && this.hello.in) || (name === 'READY' && (this.ready.in || !this.hello.in))) {
      throw unexpected('C-2', `${name} once more, or too early`, 'connection');
    }
    const { plane } = TYPES[name];
    if (plane === 'join') throw unexpected('J-2', `${name} on this connection`, 'connection');
    if (plane !== 'any' && (plane === 'connection') !== (number === 0)) {
      throw unexpected('CH-3', `${name} on channel ${number}`, 'connection');
    }
    if (number === 0) {
      this.#control(name, fields, payload);
      return { name, fields, fate: 'taken' };
    }
    const channel = OPENINGS[name] ? this.#opening(name, fields, number) : this.#onChannel(name, fields, number);
    return { name, fields, fate: 'taken', channel };
  }

  #control(name, fields, payload) {
    if (name === 'HELLO') this.#greeted(fields, payload);
    if (name === 'READY') {
      if (!fields.negotiated.equals(this.agreed.negotiated)) {
        throw refuse('NEGOTIATION_MISMATCH', 'C-6', 'the two sides saw different HELLO messages');
      }
      this.ready.in = true;
    }
    if (name === 'PONG' && !this.pings.delete(fields.sequence)) throw unexpected('H-2', `PONG ${fields.sequence} without its PING`);
    if (name === 'STATUS' && --this.statuses < 0) throw unexpected('C-12', 'STATUS that nobody asked for');
    if (name === 'GOODBYE' || name === 'ERROR') this.lose();
  }

  #greeted(fields, payload) {
    if (!fields.node_id.equals(this.peer)) throw refuse('IDENTITY_MISMATCH', 'C-5', 'another node id than that of the certificate');
    if (fields.node_id.equals(this.own)) throw refuse('IDENTITY_MISMATCH', 'C-5', 'the own node id');
    const cluster = this.cluster ?? this.hello.out?.fields.cluster;
    if (cluster && !fields.cluster.equals(cluster)) throw refuse('CLUSTER_MISMATCH', 'C-5', 'another cluster');
    checkKnown(fields);
    if (this.versions && (fields.version_min > this.versions[1] || fields.version_max < this.versions[0])) {
      throw refuse('VERSION_UNSUPPORTED', 'C-7', `versions ${this.versions.join(' to ')} are spoken here`);
    }
    this.hello.in = { payload: Buffer.from(payload), fields };
    this.#agree();
  }

  #agree() {
    const { in: theirs, out: mine } = this.hello;
    if (theirs && mine) this.agreed = this.side === 'dialer' ? agree(theirs, mine) : agree(mine, theirs);
  }

  #opening(name, fields, number) {
    const { opener, answerer } = OPENINGS[name];
    const misused = (clause, text) => refuse('CHANNEL_MISUSED', clause, text);
    if (this.#opens(number) !== 'in') throw misused('CH-1', `channel ${number} is not the peer's to open`);
    if (number <= this.highest.in) throw misused('CH-2', `channel ${number} after ${this.highest.in}`);
    if (!this.peerHas(opener) || !this.ownHas(answerer)) {
      throw refuse('ROLE_UNSUPPORTED', 'C-9', `${name} is from a ${opener} to a ${answerer}`);
    }
    if (this.openedByPeer >= this.hello.out.fields.limits.max_channels) {
      throw refuse('OVERLOADED', 'CH-5', `${this.openedByPeer} channels are open`);
    }
    return this.#begin(name, fields, number, 'in');
  }

  #begin(name, fields, number, by) {
    this.highest[by] = Math.max(this.highest[by], number);
    const { opener, answerer } = OPENINGS[name];
    const roles = by === 'in' ? { in: opener, out: answerer } : { in: answerer, out: opener };
    const channel = { number, by, state: 'opening', kind: OPENINGS[name], opening: name, fields, roles, connection: this };
    channel.plane = this.makePlane(channel, this);
    channel.plane[by](name, fields);
    this.channels.set(number, channel);
    return channel;
  }

  #onChannel(name, fields, number) {
    const channel = this.channels.get(number);
    if (!channel) throw unexpected('CH-4', `${name} on channel ${number}, which was never opened`, 'connection');
    if (name === 'ERROR') {
      channel.plane.in(name, fields);
      this.#close(channel);
      return channel;
    }
    const { kind } = channel;
    if (TYPES[name].plane !== kind.plane || !TYPES[name].from.includes(channel.roles.in)) {
      throw unexpected('CH-6', `${name} from the ${channel.roles.in} of a ${kind.plane} channel`);
    }
    if (channel.by === 'out' && name !== kind.closing && (name === kind.answer) !== (channel.state === 'opening')) {
      throw unexpected('CH-7', `${name} on a channel that is ${channel.state}`);
    }
    for (const [field, feature] of Object.entries(FEATURE_FIELDS[name] ?? {})) {
      if (fields[field] !== undefined && !this.has(feature)) {
        throw refuse('MESSAGE_INVALID', 'C-10', `${field} without the feature ${feature}`);
      }
    }
    channel.plane.in(name, fields);
    this.#moved(channel, name);
    return channel;
  }

  #moved(channel, name) {
    if (name === channel.kind.answer && channel.state === 'opening') channel.state = 'answered';
    if (name === channel.kind.closing) this.#close(channel);
  }

  #close(channel) {
    if (channel.state === 'closed') return;
    channel.state = 'closed';
    channel.plane.lost?.();
  }

  /** What this side sends, which is in order: only followed. */
  sent(name, number, fields, payload) {
    if (name === 'HELLO') {
      this.hello.out = { payload: Buffer.from(payload), fields };
      this.#agree();
    }
    if (name === 'READY') this.ready.out = true;
    if (name === 'PING') this.pings.add(fields.sequence);
    if (name === 'STATUS_REQUEST') this.statuses += 1;
    if (name === 'GOODBYE' || (name === 'ERROR' && number === 0)) return this.lose();
    if (!number) return undefined;
    if (OPENINGS[name]) return this.#begin(name, fields, number, 'out');
    const channel = this.channels.get(number);
    if (!channel) {
      if (name === 'ERROR') this.#refused(number);
      return undefined;
    }
    channel.plane.out(name, fields);
    if (name === 'ERROR') this.#close(channel);
    else this.#moved(channel, name);
    return channel;
  }

  /** Gone, with all its channels (C-13, CH-8). */
  lose() {
    if (this.closed) return;
    this.closed = true;
    for (const channel of this.channels.values()) this.#close(channel);
  }
}
