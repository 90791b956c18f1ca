// A leader's side of a draft channel (SPEC.md section 12).

import { DraftPlane } from './planes.mjs';
import { DETACH } from './registry.mjs';
import { refuse } from './refusal.mjs';

const CREDIT = 48;
const WINDOW = 8;
const WIDTH = 4;
const USELESS = 64; // D-19: PROPOSE messages between two ADVANCE that bring no new node
const FAIR_CHANCE = 64; // D-19: rounds

const openingFor = (session, link) => ({
  session: session.open.session,
  contract: session.contract,
  committed: session.committed,
  credit: CREDIT,
  window: WINDOW,
  width: link.connection.has('TREES') ? WIDTH : 1,
});

export class DraftSeat extends DraftPlane {
  constructor(session, link) {
    const opening = openingFor(session, link);
    super(opening, link.connection);
    Object.assign(this, { session, link, opening, source: link.peerName });
    this.useless = 0;
    this.barren = 0;
    this.silent = 0;
  }

  /** Is a draft to be expected of it? */
  get hopeful() {
    return !this.gone && this.model !== undefined && this.silent < 3;
  }

  in(name, fields) {
    super.in(name, fields);
    if (name === 'ATTACHED') this.model = fields.model;
    if (name === 'PROPOSE') this.#proposed(fields);
  }

  #proposed(fields) {
    const { trie } = this.session;
    const before = trie.live + trie.parkedTokens;
    trie.graft({ source: this.source, ...fields });
    this.silent = 0;
    if (trie.live + trie.parkedTokens <= before && ++this.useless > USELESS) {
      throw refuse('FLOODED', 'D-19', `${this.useless} proposals without a new node`, 'session');
    }
    this.link.later(() => this.session.round());
  }

  /** The verified prefix moved (D-7, D-18). */
  advance(path, origins) {
    if (this.gone || !this.slot) return;
    const position = this.channel.verified.position + path.length;
    const { ref, rest } = this.channel.refFor(path);
    this.useless = 0;
    this.silent += 1;
    this.link.send('ADVANCE', this.slot, { position, ref, tokens: rest });
    this.barren = origins.includes(this.source) ? 0 : this.barren + 1;
    if (this.barren >= FAIR_CHANCE) this.detach(DETACH.UNHELPFUL);
  }

  lost() {
    this.gone = true;
    this.session.seatLost();
  }

  detach(reason) {
    if (!this.gone && this.slot) this.link.send('DETACH', this.slot, { reason });
  }
}
