// The role leader (SPEC.md section 15): which sessions there are, and whom they are given to.

import { Session } from './leading.mjs';
import { SessionPlane } from './planes.mjs';
import { majorityOf } from './quorum.mjs';
import { QuorumSession } from './quorum_leading.mjs';
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
    this.seen = new Map(); // voters that had a link once, the one lost last behind
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

  // K-1, Q-3, Q-4.
  checkProfile({ commit_profile: profile }) {
    if (profile !== 0 && profile !== 2) throw refuse('COMMIT_PROFILE_UNSUPPORTED', 'K-1', `commit profile ${profile}`);
    if (profile === 2) this.group();
  }

  /** this node first, then voters that are connected, then such that were. */
  group() {
    const no = (clause, text) => refuse('QUORUM_UNAVAILABLE', clause, text);
    if (!this.node.roles.voter) throw no('Q-3', 'no voter on this node');
    const n = this.node.config.group_size ?? 3;
    const linked = [...this.node.links].filter((link) => link.open && link.connection.peerHas('voter'));
    const near = linked.map((link) => ({ id: link.peer, leads: link.connection.peerHas('leader') }));
    const away = [...this.seen.values()].reverse().filter(({ id }) => !near.some((one) => one.id.equals(id)));
    const order = (list) => [...list.filter(({ leads }) => leads), ...list.filter(({ leads }) => !leads)];
    const members = [...order(near), ...order(away)].slice(0, n - 1).map(({ id }) => id);
    if (members.length < n - 1) throw no('Q-4', `${members.length + 1} voters are known, ${n} are needed`);
    if (Math.min(near.length, n - 1) + 1 < majorityOf(n)) throw no('Q-4', `${near.length + 1} voters are connected`);
    return Buffer.concat([this.node.id, ...members]);
  }

  linkTo(id) {
    return [...this.node.links].find((link) => link.open && link.peer.equals(id) && link.connection.peerHas('voter'));
  }

  /** A voter of this node suspects: take that view up, if there is a verifier for it. */
  takeOver(ledger, view, onGone) {
    const id = ledger.session.toString('hex');
    if (this.sessions.has(id)) return setImmediate(onGone);
    const { session, contract, group, source, finish } = ledger;
    const open = { session, contract, max_drafters: ledger.maxDrafters };
    const known = ledger.log.tokensFrom(ledger.prompt, ledger.committed);
    const fields = { open, group, view, known, onGone: () => setImmediate(onGone) };
    const next = new QuorumSession(this, null, fields);
    next.model = { name: source.model, profile: source.profile, profile_text: source.profile_text, claimed: false };
    next.finished = finish !== undefined;
    this.sessions.set(id, next);
    return next.start();
  }

  begin(client) {
    const quorum = client.fields.contract.commit_profile === 2;
    const session = quorum ? new QuorumSession(this, client, { group: this.group() }) : new Session(this, client);
    this.sessions.set(session.id, session);
    client.session = session;
    client.slot = [...client.link.connection.channels.values()].find((channel) => channel.plane === client);
    session.start();
  }

  lost(link) {
    const { connection, peerName, peer } = link;
    if (!connection.peerHas('voter')) return;
    this.seen.delete(peerName);
    this.seen.set(peerName, { id: peer, leads: connection.peerHas('leader') });
  }

  opened(link) {
    for (const session of this.sessions.values()) session.linkUp(link);
  }

  stop() {
    for (const session of [...this.sessions.values()]) session.stop();
  }
}
