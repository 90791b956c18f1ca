// The role leader (SPEC.md section 15): which sessions there are, and whom they are given to.

import { Session } from './leading.mjs';
import { SessionPlane } from './planes.mjs';
import { refuse } from './refusal.mjs';

const MAX_SESSIONS = 64; // L-2

// The client's channel at the leader.
class Client extends SessionPlane {
  constructor(leader, fields, link) {
    super('OPEN', fields);
    this.leader = leader;
    this.link = link;
    this.fields = fields;
  }

  in(name, fields) {
    if (name === 'OPEN') {
      this.leader.check(fields);
      this.link.later(() => this.leader.begin(this));
    }
    if (name === 'CLOSE') this.link.later(() => this.session.closed());
  }

  lost() {
    this.session?.clientLost();
  }
}

export class Leader {
  constructor(node) {
    this.node = node;
    this.sessions = new Map(); // by id, in hexadecimal
  }

  makePlane(channel, link) {
    return new Client(this, channel.fields, link);
  }

  /** Links whose peer offers a model in that role (L-1, L-12). */
  offering(role, contract) {
    const found = [];
    for (const link of this.node.links) {
      if (!link.open || !link.connection.peerHas(role)) continue;
      const number = role === 'verifier' ? 4 : 3;
      for (const model of link.connection.hello.in.fields.models) {
        if (model.role !== number) continue;
        const fits = model.vocabulary_size === contract.vocabulary_size && model.vocabulary_digest.equals(contract.vocabulary_digest);
        found.push({ link, model, fits });
      }
    }
    return found;
  }

  check({ session, contract }) {
    if (this.sessions.has(session.toString('hex'))) throw refuse('SESSION_EXISTS', 'S-1', 'the session is running here');
    const { method } = contract.sampling;
    if (method !== 0) throw refuse('METHOD_UNSUPPORTED', 'S-4', `method ${method}`);
    this.checkProfile(contract);
    if (this.sessions.size >= MAX_SESSIONS) throw refuse('OVERLOADED', 'L-2', `${this.sessions.size} sessions`);
    const offers = this.offering('verifier', contract);
    const there = offers.map(({ model }) => model.name).join(', ') || 'no verifier';
    const fitting = offers.filter(({ fits }) => fits);
    if (offers.length && !fitting.length) throw refuse('VOCABULARY_MISMATCH', 'S-3', `here is ${there}`);
    if (!fitting.some(({ model }) => !contract.model || model.name === contract.model)) {
      throw refuse('MODEL_UNAVAILABLE', 'L-3', `${contract.model}; here is ${there}`);
    }
  }

  checkProfile({ commit_profile: profile }) {
    if (profile !== 0) throw refuse('COMMIT_PROFILE_UNSUPPORTED', 'K-1', `commit profile ${profile}`);
  }

  begin(client) {
    const session = new Session(this, client);
    this.sessions.set(session.id, session);
    client.session = session;
    client.slot = [...client.link.connection.channels.values()].find((channel) => channel.plane === client);
    session.start();
  }

  opened(link) {
    for (const session of this.sessions.values()) session.linkUp(link);
  }

  stop() {
    for (const session of this.sessions.values()) session.stop();
  }
}
