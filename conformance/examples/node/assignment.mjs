// A leader's side of a verify channel (SPEC.md sections 14, 15).

import { VerifyPlane } from './planes.mjs';
import { ERROR_NAMES } from './registry.mjs';
import { refuse } from './refusal.mjs';

const PATIENCE_MS = 60000; // L-8

export class VerifySeat extends VerifyPlane {
  constructor(session, fields, link) {
    super(fields, link.connection);
    this.session = session;
    this.link = link;
    this.why = refuse('VERIFIER_LOST', 'L-4', 'the link to the verifier was lost');
    this.opening = fields;
  }

  /** Sends ASSIGN; false if the verifier cannot be sent it. */
  open() {
    if (!this.link.openChannel('ASSIGN', this.opening, this)) return false;
    this.#watch();
    return true;
  }

  get idle() {
    return this.assigned !== null && this.verify === null && !this.ended;
  }

  in(name, fields) {
    if (name === 'ASSIGNED') this.#checkSame(fields);
    super.in(name, fields);
    clearTimeout(this.timer);
    if (name === 'ASSIGNED') this.link.later(() => this.session.assigned(this, fields));
    if (name === 'VERDICT') {
      const { path, added } = this;
      this.link.later(() => this.session.verifier === this && this.session.verdict(path, added, fields.finish));
    }
    if (name === 'ERROR') {
      const code = ERROR_NAMES.get(fields.code) ?? 'INTERNAL';
      this.why = refuse(code, fields.clause, fields.text);
    }
  }

  // L-5: the same model and profile as OPENED said.
  #checkSame({ model, profile }) {
    const said = this.session.model;
    if (!said) return;
    if (model !== said.name) throw refuse('MODEL_UNAVAILABLE', 'S-14', `model ${model}`);
    if (said.claimed && !profile.equals(said.profile)) throw refuse('PROFILE_MISMATCH', 'L-5', 'another profile than OPENED said');
  }

  ask(fields) {
    this.link.send('VERIFY', this.slot, fields);
    this.#watch();
  }

  #watch() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.link.refuse(refuse('COMPUTE_FAILED', 'L-8', 'no answer for too long'), this.slot.number);
    }, PATIENCE_MS);
  }

  lost() {
    clearTimeout(this.timer);
    this.session.verifierLost(this, this.why);
  }

  release() {
    clearTimeout(this.timer);
    if (this.slot && this.slot.state !== 'closed') this.link.send('RELEASE', this.slot);
  }
}
