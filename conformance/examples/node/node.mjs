// A live node: an identity, its links, and the roles that it has.

import crypto from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { spkiOf } from './certificate.mjs';
import { Client } from './client.mjs';
import { Drafter } from './drafter.mjs';
import { Leader } from './leader.mjs';
import { Link } from './link.mjs';
import { sha256 } from './prefix.mjs';
import { FEATURES, ROLES, VERSION } from './registry.mjs';
import { model } from './tm1.mjs';
import { dial, listen } from './transport.mjs';
import { Verifier } from './verifier.mjs';
import { VoterRole } from './voter.mjs';

const REDIAL_MS = [50, 100, 200, 400, 800, 1000]; // SEC-2
const LIMITS = { max_payload: 1048576, max_channels: 1024 };

const idOf = (pem) => sha256(spkiOf(new crypto.X509Certificate(pem).raw)); // N-1

export class Node {
  constructor({ roles, identity, peers, config = {} }) {
    this.identity = identity;
    this.id = idOf(identity.certificate);
    this.cluster = idOf(identity.authority).subarray(0, 16); // T-3
    this.instance = crypto.randomBytes(8);
    this.roleNames = roles;
    this.peers = peers;
    this.config = config;
    this.links = new Set();
    this.timers = new Set();
    const target = model(config.target ?? 'tm-1:v=4096,s=7');
    const draft = model(config.draft ?? `${target.name},a=52429,d=1`);
    const maxContext = config.max_context ?? 16384;
    this.roles = {};
    if (roles.includes('verifier')) this.roles.verifier = new Verifier({ target, maxNodes: config.max_nodes ?? 128, maxContext });
    if (roles.includes('voter')) this.roles.voter = new VoterRole(this, config.store);
    if (roles.includes('leader')) this.roles.leader = new Leader(this);
    if (roles.includes('client')) this.roles.client = new Client(this, target, config.session);
    if (roles.includes('drafter')) this.roles.drafter = new Drafter({ model: draft, maxContext });
  }

  hello() {
    return {
      version_min: VERSION,
      version_max: VERSION,
      node_id: this.id,
      instance: this.instance,
      roles: this.roleNames.map((name) => ROLES[name]).sort((a, b) => a - b),
      cluster: this.cluster,
      features: Object.values(FEATURES),
      limits: { ...LIMITS, heartbeat_ms: this.config.heartbeat_ms ?? 2500 },
      models: Object.values(this.roles).flatMap((role) => role.modelOffer?.() ?? []),
      nonce: crypto.randomBytes(16),
      agent: 'dsdp-node-example/0.1',
    };
  }

  makePlane(channel, link) {
    return this.roles[channel.roles.out].makePlane(channel, link);
  }

  status() {
    const peers = [...this.links].filter((link) => link.open).map((link) => link.peerName);
    return JSON.stringify({ roles: this.roleNames, peers });
  }

  // C-14: of two links between the same two nodes one stays.
  opened(link) {
    const { instance } = link.connection.hello.in.fields;
    for (const other of this.links) {
      const same = other !== link && other.open && other.peer.equals(link.peer);
      if (!same || !other.connection.hello.in.fields.instance.equals(instance)) continue;
      const lower = Buffer.compare(this.id, link.peer) < 0 ? 'dialer' : 'acceptor';
      const stays = other.side === link.side ? link : [link, other].find((one) => one.side === lower);
      (stays === link ? other : link).leave();
      if (stays !== link) return;
    }
    for (const role of Object.values(this.roles)) role.opened?.(link);
  }

  lost(link) {
    this.links.delete(link);
    for (const role of Object.values(this.roles)) role.lost?.(link);
    if (link.address) this.#redial(link.address);
  }

  #take(socket, side, peer, address) {
    const link = new Link(socket, side, this, peer);
    link.address = address;
    this.links.add(link);
  }

  #redial(address) {
    if (this.stopped) return;
    const tries = (this.tries ??= new Map());
    const count = tries.get(address) ?? 0;
    tries.set(address, count + 1);
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      this.#dial(address);
    }, REDIAL_MS[Math.min(count, REDIAL_MS.length - 1)]);
    this.timers.add(timer);
  }

  #dial(address) {
    dial(address, this.identity, (error, socket, peer) => {
      if (this.stopped) return socket?.destroy();
      if (error) return this.#redial(address);
      return this.#take(socket, 'dialer', peer, address);
    });
  }

  async start(listening) {
    if (listening) {
      this.server = await listen(this.identity, (socket, peer) => {
        if (this.stopped) socket.destroy();
        else this.#take(socket, 'acceptor', peer);
      });
    }
    for (const address of this.peers) this.#dial(address);
    this.roles.voter?.start();
    return this.server ? `127.0.0.1:${this.server.address().port}` : undefined;
  }

  /** Open sessions of a client may take `waitMs` longer. */
  async stop(waitMs = 0) {
    const end = Date.now() + waitMs;
    while (this.roles.client?.busy && Date.now() < end) await sleep(10);
    this.stopped = true;
    for (const timer of this.timers) clearTimeout(timer);
    for (const role of ['voter', 'leader', 'client']) this.roles[role]?.stop();
    for (const link of [...this.links]) link.leave();
    this.server?.close();
    return { sessions: this.roles.client?.outcomes() };
  }
}
