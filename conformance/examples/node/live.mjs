// The verbs start, stop and reset: live nodes by name.

import { Node } from './node.mjs';

export const LIVE_ROLES = ['client', 'leader', 'drafter', 'verifier', 'voter'];

const nodes = new Map();
let count = 0;

export async function start(request) {
  const node = new Node(request);
  const address = await node.start(request.listen);
  const name = `node-${++count}`;
  nodes.set(name, node);
  return { node: name, address, node_id: node.id };
}

export async function stop(name, waitMs) {
  const node = nodes.get(name);
  nodes.delete(name);
  return node ? node.stop(waitMs) : {};
}

export async function reset() {
  await Promise.all([...nodes.keys()].map((name) => stop(name, 0)));
  return {};
}
