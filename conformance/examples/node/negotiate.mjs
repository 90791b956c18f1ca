// What two HELLO messages agree on (C-6 to C-8, R-1).

import * as cbor from './cbor.mjs';
import { readMap } from './messages.mjs';
import { sha256 } from './prefix.mjs';
import { FEATURES, GREASE_FEATURES, ROLES } from './registry.mjs';
import { refuse } from './refusal.mjs';

const KNOWN_FEATURES = new Set(Object.values(FEATURES));
const KNOWN_ROLES = new Set(Object.values(ROLES));

/** Is this HELLO one that a node of this version can go on with? */
export function checkKnown(hello) {
  for (const feature of hello.features) {
    if (feature % 2 === 0 && !KNOWN_FEATURES.has(feature)) throw refuse('VERSION_UNSUPPORTED', 'R-1', `feature ${feature}`);
  }
  for (const role of hello.roles) {
    if (role % 2 === 0 && !KNOWN_ROLES.has(role)) throw refuse('VERSION_UNSUPPORTED', 'R-1', `role ${role}`);
  }
}

/** acceptor and dialer: {payload, fields} of their HELLO. */
export function agree(acceptor, dialer) {
  const [a, d] = [acceptor.fields, dialer.fields];
  const version = Math.min(a.version_max, d.version_max);
  if (version < Math.max(a.version_min, d.version_min)) {
    const text = `versions ${a.version_min} to ${a.version_max} and ${d.version_min} to ${d.version_max}`;
    throw refuse('VERSION_UNSUPPORTED', 'C-7', text);
  }
  const features = a.features.filter((feature) => d.features.includes(feature) && !GREASE_FEATURES.includes(feature));
  const agreed = cbor.encode(new Map([[1, version], [2, features]]));
  return {
    version,
    features,
    heartbeat_ms: Math.min(a.limits.heartbeat_ms, d.limits.heartbeat_ms),
    negotiated: sha256(acceptor.payload, dialer.payload, agreed),
  };
}

/** From payloads alone, as either side would (function `negotiate`). */
export function negotiate(acceptorPayload, dialerPayload) {
  const [acceptor, dialer] = [acceptorPayload, dialerPayload].map((payload) => {
    const fields = readMap('HELLO', cbor.decodeMap(payload));
    return { payload, fields };
  });
  checkKnown(acceptor.fields);
  checkKnown(dialer.fields);
  return agree(acceptor, dialer);
}

