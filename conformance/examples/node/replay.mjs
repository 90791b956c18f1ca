// A passive reader of recorded connections (IMPLEMENTERS.md, "replay"): follows everything, and judges what comes in by
// the rules that the recorder would judge it by.

import { Connection } from './connection.mjs';
import { Splitter } from './frames.mjs';
import { Voter } from './ledger.mjs';
import { NAMES, read } from './messages.mjs';
import { CommitPlane, DraftPlane, SessionPlane, VerifyPlane } from './planes.mjs';
import { Prefix } from './prefix.mjs';
import { Refusal, refuse } from './refusal.mjs';
import { Trie } from './trie.mjs';
import { bytes } from './values.mjs';

const hex = (id) => id.toString('hex');
const nameOf = (type) => NAMES.get(type) ?? `0x${type.toString(16).padStart(2, '0')}`;

class Reader {
  constructor({ recorder, connections }) {
    this.recorder = bytes(recorder);
    this.voter = new Voter(this.recorder);
    this.leads = new Set(); // sessions in which the recorder sent an ENLIST
    this.contracts = new Map();
    this.tries = new Map(); // by session: the books of what the recorder leads
    this.frames = [];
    this.channels = [];
    this.links = connections.map(({ side, peer }, index) => {
      const connection = new Connection(side, this.recorder, bytes(peer), (channel) => this.#plane(channel));
      connection.index = index;
      return { connection, in: new Splitter(), out: new Splitter() };
    });
  }

  #plane({ opening, fields, connection, by, number }) {
    const session = hex(fields.session);
    if (fields.contract) this.contracts.set(session, fields.contract);
    const name = `${connection.index}/${number}`;
    if (opening === 'OPEN' || opening === 'RESUME') {
      const plane = new SessionPlane(opening, fields, this.contracts.get(session));
      const out = plane.out.bind(plane);
      plane.out = (what, message) => {
        out(what, message);
        if (what === 'END' && opening === 'OPEN') this.tries.get(session)?.end();
      };
      if (opening === 'RESUME' && by === 'in') {
        const before = plane.in.bind(plane);
        plane.in = (what, message) => {
          if (what === 'RESUME') this.#checkResume(message);
          before(what, message);
        };
      }
      return plane;
    }
    if (opening === 'ATTACH') return this.#draftPlane(fields, connection, session, name);
    if (opening === 'ASSIGN') return this.#verifyPlane(fields, connection, session, by);
    return this.#commitPlane(fields, connection, session, name, by);
  }

  #draftPlane(fields, connection, session, source) {
    const plane = new DraftPlane(fields, connection);
    const before = plane.in.bind(plane);
    plane.in = (what, message) => {
      before(what, message);
      if (what === 'PROPOSE') this.tries.get(session)?.graft({ source, ...message });
    };
    return plane;
  }

  #verifyPlane(fields, connection, session, by) {
    const plane = new VerifyPlane(fields, connection);
    if (by === 'in') return plane;
    if (!this.tries.has(session)) {
      const { position, digest } = Prefix.ofContract(fields.contract, fields.committed);
      this.tries.set(session, new Trie(position, digest));
    }
    const before = plane.in.bind(plane);
    plane.in = (what, message) => {
      before(what, message);
      if (what === 'VERDICT') this.tries.get(session).advance(plane.added, plane.path.length);
    };
    return plane;
  }

  #commitPlane(fields, connection, session, name, by) {
    if (by === 'out') {
      this.leads.add(session);
      return new CommitPlane(fields);
    }
    const plane = new CommitPlane(fields, (what, message) => {
      if (this.leads.has(session)) return;
      for (const { channel, refusal } of this.voter.take(name, connection.peer, what, message)) {
        if (refusal && channel === name) throw refusal;
      }
    });
    plane.lost = () => this.voter.lost(name);
    return plane;
  }

  #checkResume({ session, position, digest }) {
    const id = hex(session);
    if (this.leads.has(id)) return;
    const ledger = this.voter.ledgers.get(id);
    if (!ledger) throw refuse('SESSION_UNKNOWN', 'Q-50', 'a session that is not known here');
    if (position > ledger.committed) return; // it waits
    const fits = position >= ledger.prompt && ledger.log.digestAt(position).equals(digest);
    if (!fits) throw refuse('PREFIX_UNKNOWN', 'Q-52', `another prefix at ${position}`);
  }

  /** One step; gives the violation, if it brings one. */
  step([index, direction, data]) {
    const link = this.links[index];
    const { connection } = link;
    if (direction === 'lost') {
      connection.lose();
      return null;
    }
    const splitter = link[direction];
    splitter.push(bytes(data));
    try {
      for (;;) {
        const frame = splitter.next(direction === 'in' ? connection.limit : Infinity);
        if (!frame) return null;
        const { fate, channel } = direction === 'in' ? connection.receive(frame) : this.#follow(connection, frame);
        if (channel && !this.channels.includes(channel)) this.channels.push(channel);
        this.frames.push([index, direction, frame.channel, nameOf(frame.type), fate]);
      }
    } catch (refusal) {
      if (!(refusal instanceof Refusal)) throw refusal;
      const channel = refusal.channel ?? 0;
      const { code, clause } = refusal;
      const scope = channel ? 'session' : 'connection';
      return { frame: this.frames.length, connection: index, channel, code, scope, clause };
    }
  }

  #follow(connection, { type, channel, payload }) {
    const { name, fields } = read(type, payload);
    if (!name) return { fate: 'ignored' };
    return { fate: 'taken', channel: connection.sent(name, channel, fields, payload) };
  }

  conclusions(violation) {
    const connections = this.links.map(({ connection }) => {
      const state = connection.closed ? 'closed' : connection.open ? 'open' : 'handshake';
      if (!connection.agreed) return { state };
      const { version, features, heartbeat_ms: beat } = connection.agreed;
      return { state, version, features, heartbeat_ms: beat, roles: connection.hello.in.fields.roles };
    });
    const channels = this.channels.map((channel) => ({
      connection: channel.connection.index,
      channel: channel.number,
      opened_by: channel.by,
      state: channel.state,
      plane: channel.kind.plane,
      ...channel.plane.report(),
    }));
    const books = [...this.tries].map(([session, trie]) => ({ session, ...trie.total(), live: trie.live }));
    return { frames: this.frames, connections, channels, books, violation };
  }
}

export function replay(transcript) {
  const reader = new Reader(transcript);
  let violation = null;
  for (const step of transcript.steps) {
    violation = reader.step(step);
    if (violation) break;
  }
  return reader.conclusions(violation ?? undefined);
}
