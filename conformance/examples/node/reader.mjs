// A client that resumed at this voter (SPEC.md section 16.9).

import { SessionPlane } from './planes.mjs';
import { FINISH } from './registry.mjs';
import { refuse } from './refusal.mjs';

const BLOCK_TOKENS = 256;

export class Reader extends SessionPlane {
  constructor(role, fields, link) {
    super('RESUME', fields);
    Object.assign(this, { role, link, fields, session: fields.session.toString('hex') });
  }

  in(name, fields) {
    if (name === 'RESUME') {
      const ledger = this.role.voter.ledgers.get(this.session);
      if (!ledger) throw refuse('SESSION_UNKNOWN', 'Q-50', 'a session that is not known here');
      this.#check(ledger);
      this.role.readers.add(this);
      this.link.later(() => this.serve(ledger));
    }
    if (name === 'CLOSE') this.link.later(() => this.#close());
  }

  #check(ledger) {
    const { position, digest } = this.fields;
    if (position < ledger.prompt) throw refuse('PREFIX_UNKNOWN', 'Q-52', 'a position within the prompt');
    if (position <= ledger.committed && !ledger.log.digestAt(position).equals(digest)) {
      throw refuse('PREFIX_UNKNOWN', 'Q-52', `another prefix at ${position}`);
    }
  }

  get channel() {
    return [...this.link.connection.channels.values()].find((one) => one.plane === this);
  }

  /** Sends what is committed, and END behind the last of it. */
  serve(ledger) {
    const { channel } = this;
    if (!channel || channel.state === 'closed') return;
    if (!ledger) return this.link.refuse(refuse('SESSION_UNKNOWN', 'Q-63', 'the session was forgotten'), channel.number);
    if (this.prefix.position > ledger.committed) return;
    try {
      if (!this.opened) this.#open(ledger, channel);
      const { source } = ledger;
      if (source.model !== this.opened.model || !source.profile.equals(this.opened.profile)) {
        throw refuse('VIEW_STALE', 'Q-54', 'a later view has another model or profile');
      }
    } catch (refusal) {
      if (!refusal.code) throw refusal;
      return this.link.refuse(refusal, channel.number);
    }
    while (this.prefix.position < ledger.committed) {
      const { position } = this.prefix;
      const tokens = ledger.log.tokensFrom(position, Math.min(ledger.committed, position + BLOCK_TOKENS));
      this.link.send('BLOCK', channel, { position, tokens });
    }
    if (ledger.ended) this.#end(ledger.finish);
  }

  #open(ledger, channel) {
    this.#check(ledger);
    this.opened = ledger.source;
    const { model, profile, profile_text: text } = ledger.source;
    const fields = { position: this.fields.position, model, profile, profile_text: text };
    this.link.send('OPENED', channel, { ...fields, group: ledger.group, view: ledger.promised });
  }

  #end(finish) {
    const { position, digest } = this.prefix;
    this.link.send('END', this.channel, { finish, position, digest });
  }

  #close() {
    this.#end(FINISH.CLOSED);
  }

  lost() {
    this.role.readers.delete(this);
  }
}
