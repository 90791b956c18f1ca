// A refusal by the rules of the protocol (E-1): which code, which clause, and why in words.

import { ERRORS } from './registry.mjs';

export class Refusal extends Error {
  /** layer: frame, cbor, message, session, value. scope: 'connection' where a clause says so in spite of E-2. */
  constructor(layer, code, clause, text, scope) {
    super(`${code ?? layer} (${clause}): ${text}`);
    this.layer = layer;
    this.code = code;
    this.clause = clause;
    this.text = text;
    this.scope = scope;
  }
}

export const bad = (clause, text) => new Refusal('message', 'MESSAGE_INVALID', clause, text);
export const refuse = (code, clause, text, scope) => new Refusal('session', code, clause, text, scope);
export const worthless = (clause, text) => new Refusal('value', undefined, clause, text);

// E-2: codes below 0x0100 are of connection scope, except those two on the channel of a session.
export function scopeOf(refusal, channel) {
  if (refusal.scope) return refusal.scope;
  if (refusal.layer === 'frame' || refusal.layer === 'cbor') return 'connection';
  const { code } = refusal;
  if (code === 'MESSAGE_INVALID' || code === 'MESSAGE_UNEXPECTED') return channel ? 'session' : 'connection';
  return ERRORS[code] < 0x0100 ? 'connection' : 'session';
}
