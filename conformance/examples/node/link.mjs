// One live link: a TLS connection, its frames, heartbeats, grease and refusals around the rules of connection.mjs.

import crypto from 'node:crypto';
import { Connection } from './connection.mjs';
import * as cbor from './cbor.mjs';
import { Splitter, frame } from './frames.mjs';
import { toMap } from './messages.mjs';
import { Refusal, refuse } from './refusal.mjs';
import { ERRORS, GREASE_FEATURES, GREASE_KEYS, VERSION } from './registry.mjs';
import { TYPES } from './tables.mjs';

const HANDSHAKE_MS = 10000; // C-5
const FLOOD = { burst: 128, perSecond: 16 }; // C-11
const pick = (list) => list[crypto.randomInt(list.length)];
const USELESS = new Set(['PING', 'STATUS_REQUEST']);

function cut(text, bytes) {
  let short = text;
  while (Buffer.byteLength(short) > bytes) short = short.slice(0, -1);
  return short;
}

export class Link {
  /** node: {id, hello(), cluster, makePlane(channel, link), opened(link), lost(link), status()}. */
  constructor(socket, side, node, peer) {
    this.socket = socket;
    this.side = side;
    this.node = node;
    this.peer = peer;
    this.peerName = peer.toString('hex');
    this.splitter = new Splitter();
    this.connection = new Connection(side, node.id, peer, (channel) => this.pending ?? node.makePlane(channel, this));
    this.connection.cluster = node.cluster;
    this.connection.versions = [VERSION, VERSION];
    this.connection.link = this;
    this.after = [];
    this.tokens = FLOOD.burst;
    this.heard = this.filled = Date.now();
    this.sequence = 0;
    socket.on('data', (bytes) => this.#data(bytes));
    socket.on('error', () => this.#gone());
    socket.on('end', () => this.#gone());
    socket.on('close', () => this.#gone());
    this.timer = setTimeout(() => this.#late(), HANDSHAKE_MS);
    if (side === 'acceptor') this.#greet(); // C-3
  }

  get open() {
    return this.connection.open;
  }

  #greet() {
    const fields = this.node.hello();
    const grease = pick(GREASE_FEATURES);
    fields.features = [...fields.features, grease].sort((a, b) => a - b);
    const map = toMap('HELLO', fields);
    map.set(pick(GREASE_KEYS), pick([crypto.randomInt(1000), 'grease', [1, []], new Map([[1, 0]])]));
    this.#write('HELLO', 0, fields, cbor.encode(map));
  }

  #write(name, number, fields, payload = cbor.encode(toMap(name, fields))) {
    if (this.socket.destroyed || this.ended) return undefined;
    this.socket.write(frame(TYPES[name].type, number, payload));
    return this.connection.sent(name, number, fields, payload);
  }

  /** Sends a message; on a channel that is closed nothing (CH-8). */
  send(name, channel, fields = {}) {
    const number = typeof channel === 'number' ? channel : channel.number;
    if (this.connection.closed || (typeof channel === 'object' && channel.state === 'closed')) return undefined;
    return this.#write(name, number, fields);
  }

  /** Opens a channel, whose plane is given. */
  openChannel(name, fields, plane) {
    const payload = cbor.encode(toMap(name, fields));
    if (payload.length > this.connection.hello.in.fields.limits.max_payload) return null; // L-11
    const open = [...this.connection.channels.values()].filter((c) => c.by === 'out' && c.state !== 'closed').length;
    if (open >= this.connection.hello.in.fields.limits.max_channels) return null; // CH-5
    this.pending = plane;
    plane.link = this;
    const channel = this.#write(name, this.connection.nextChannel(), fields, payload);
    this.pending = null;
    plane.slot = channel;
    return channel ?? null;
  }

  fits(name, fields) {
    return cbor.encode(toMap(name, fields)).length <= this.connection.hello.in.fields.limits.max_payload;
  }

  /** Says what was wrong, in the smallest scope (E-1 to E-3). */
  refuse(refusal, channel) {
    if (this.connection.closed) return;
    const { code, clause, text, type } = refusal;
    const fields = { code: ERRORS[code] ?? ERRORS.INTERNAL, clause: cut(clause ?? '', 32), text: cut(text ?? '', 512) };
    if (type !== undefined) fields.message_type = type;
    this.#write('ERROR', channel, fields);
    if (!channel) this.end();
  }

  /** Runs when the frame at hand has been dealt with. */
  later(action) {
    this.after.push(action);
  }

  #data(bytes) {
    this.heard = Date.now();
    this.splitter.push(bytes);
    try {
      while (!this.connection.closed) {
        const next = this.splitter.next(this.connection.limit);
        if (!next) return;
        this.#frame(next);
      }
    } catch (error) {
      if (!(error instanceof Refusal)) process.stderr.write(`${error.stack}\n`);
      this.refuse(error instanceof Refusal ? error : refuse('INTERNAL', 'E-7', 'a defect of this node'), 0);
    }
  }

  #frame(next) {
    let taken;
    try {
      taken = this.connection.receive(next);
    } catch (refusal) {
      this.after = [];
      if (!(refusal instanceof Refusal) || !refusal.channel) throw refusal;
      this.#useless(); // C-11: its fault ends a session
      this.refuse(refusal, refusal.channel);
      return;
    }
    const { name, fields, fate } = taken;
    if (fate === 'ignored' || USELESS.has(name)) this.#useless();
    if (name === 'HELLO' && this.side === 'dialer') {
      this.#greet();
      this.#write('READY', 0, { negotiated: this.connection.agreed.negotiated });
    }
    if (name === 'READY') this.#ready();
    if (name === 'PING') this.#write('PONG', 0, fields);
    if (name === 'STATUS_REQUEST') this.#write('STATUS', 0, { document: this.node.status() });
    if (this.connection.closed) return this.end();
    const { after } = this;
    this.after = [];
    for (const action of after) action();
    return undefined;
  }

  #ready() {
    const { connection } = this;
    if (this.side === 'acceptor') this.#write('READY', 0, { negotiated: connection.agreed.negotiated });
    clearTimeout(this.timer);
    const type = 0xe1 + 2 * crypto.randomInt(16);
    this.socket.write(frame(type, 0, cbor.encode(new Map([[crypto.randomInt(100), 'grease']]))));
    this.interval = connection.agreed.heartbeat_ms;
    this.timer = setInterval(() => this.#beat(), Math.max(this.interval / 4, 10));
    this.node.opened(this);
  }

  #useless() {
    const now = Date.now();
    this.tokens = Math.min(FLOOD.burst, this.tokens + ((now - this.filled) / 1000) * FLOOD.perSecond);
    this.filled = now;
    this.tokens -= 1;
    if (this.tokens < 0) throw refuse('FLOODED', 'C-11', 'too many frames that are of no use');
  }

  // H-1, H-3. What has already arrived is taken in first: this runs in a turn of its own.
  #beat() {
    const silent = Date.now() - this.heard;
    if (silent < this.interval) return;
    setImmediate(() => {
      const still = Date.now() - this.heard;
      if (this.connection.closed || still < this.interval) return;
      if (still >= 4 * this.interval) this.refuse(refuse('HEARTBEAT_TIMEOUT', 'H-3', `${still} ms of silence`), 0);
      else if (!this.connection.pings.size) {
        this.#write('PING', 0, { sequence: this.sequence });
        this.sequence = (this.sequence + 1) % 2 ** 32;
      }
    });
  }

  #late() {
    this.refuse(refuse('HANDSHAKE_TIMEOUT', 'C-5', `not open after ${HANDSHAKE_MS} ms`), 0);
  }

  /** In good order (C-13). */
  leave() {
    if (this.connection.open) this.#write('GOODBYE', 0, { reason: 0 });
    this.end();
  }

  // Gives what was written a chance to arrive (E-6).
  end() {
    this.ended = true;
    this.socket.end();
    setTimeout(() => this.socket.destroy(), 1000).unref();
    this.#gone();
  }

  #gone() {
    if (this.lost) return;
    this.lost = true;
    clearTimeout(this.timer);
    clearInterval(this.timer);
    this.connection.lose();
    this.socket.end();
    setTimeout(() => this.socket.destroy(), 1000).unref();
    this.node.lost(this);
  }
}
