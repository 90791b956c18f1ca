// The verbs start, stop and reset: live nodes by name.

import { Node } from './node.mjs';

export const LIVE_ROLES = ['client', 'leader', 'drafter', 'verifier'];

const nodes = new Map();
let count = 0;

export async function start(request) {
  const node = new Node(request);
  const address = await node.start(request.listen);
  const name = `node-${++count}`;
  nodes.set(name, node);
  return { node: name, address, node_id: node.id };
}

export function stop(name) {
  const node = nodes.get(name);
  nodes.delete(name);
  return node ? node.stop() : {};
}

export function reset() {
  for (const name of [...nodes.keys()]) stop(name);
  return {};
}
