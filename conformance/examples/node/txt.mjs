// TXT records of announcements (SPEC.md section 6).

import { isUtf8 } from 'node:buffer';
import { readNodeId } from './identity.mjs';
import { ROLES } from './registry.mjs';
import { worthless } from './refusal.mjs';

const KNOWN = new Set(Object.values(ROLES));
const NUMBER = '(?:0|[1-9][0-9]{0,4})';

function pairs(strings) {
  const found = new Map();
  for (const string of strings) {
    const at = string.indexOf(0x3d);
    if (at <= 0) continue;
    const key = string.subarray(0, at).toString('latin1').toLowerCase();
    if (!found.has(key)) found.set(key, string.subarray(at + 1)); // the first counts
  }
  return found;
}

/** What a TXT record says; one that is to be ignored is refused (DI-4 to DI-9). */
export function readTxt(strings) {
  const ignore = (clause, text) => worthless(clause, text);
  if (strings.reduce((total, string) => total + 1 + string.length, 0) > 1300) throw ignore('DI-8', 'longer than 1300 bytes');
  const found = pairs(strings);
  const text = (key, clause, pattern) => {
    const value = found.get(key)?.toString('latin1');
    const match = value === undefined ? null : value.match(pattern);
    if (!match) throw ignore(clause, `${key}: ${JSON.stringify(value)}`);
    return match;
  };
  const versions = text('v', 'DI-4', /^([1-9][0-9]{0,4})-([1-9][0-9]{0,4})$/).slice(1, 3).map(Number);
  if (versions[1] > 65535 || versions[0] > versions[1]) throw ignore('DI-4', `versions ${versions.join(' to ')}`);
  const node = readNodeId(text('id', 'DI-5', /^[a-z2-7]{54}$/)[0]);
  const instance = text('in', 'DI-5', /^[0-9a-f]{16}$/)[0];
  const cluster = text('c', 'DI-5', /^[0-9a-f]{32}$/)[0];
  const list = text('r', 'DI-6', new RegExp(`^(?:${NUMBER}(?:,${NUMBER})*)?$`))[0];
  const roles = list ? list.split(',').map(Number) : [];
  if (roles.length > 16 || roles.some((role) => role > 65535)) throw ignore('DI-6', `roles ${list}`);
  const raw = found.get('m');
  if (raw && (!isUtf8(raw) || /\p{Cc}/u.test(raw.toString('utf8')))) throw ignore('DI-7', 'model names');
  const models = raw?.length ? raw.toString('utf8').split(',') : [];
  const more = models.at(-1) === '*';
  if (more) models.pop();
  return {
    versions,
    node_id: node,
    instance: Buffer.from(instance, 'hex'),
    cluster: Buffer.from(cluster, 'hex'),
    roles: roles.filter((role) => KNOWN.has(role)),
    models,
    more,
  };
}
