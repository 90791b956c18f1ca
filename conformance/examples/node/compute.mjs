// The functions of verb `compute`: from JSON to the module that knows, and back.

import * as coupled from './coupled.mjs';
import { DraftChannel } from './drafting.mjs';
import * as fixed from './fixed.mjs';
import * as identity from './identity.mjs';
import * as join from './join.mjs';
import { Voter } from './ledger.mjs';
import { encodeContract } from './messages.mjs';
import { negotiate } from './negotiate.mjs';
import { philox4x32, wordOf } from './philox.mjs';
import { Prefix, extend, sha256 } from './prefix.mjs';
import * as quorum from './quorum.mjs';
import { FEATURES } from './registry.mjs';
import { model, contextOf, offer, row, stream, vocabularyDigest } from './tm1.mjs';
import { Trie } from './trie.mjs';
import { readTxt } from './txt.mjs';
import { bytes, fieldsFromJson, integer, recordFromJson } from './values.mjs';
import { checkPropose, checkVerdict, checkVerify, walk } from './verifying.mjs';

const contractOf = (input) => recordFromJson('Contract', input.contract);
const samplingOf = (input) => ({ ...input, seed: BigInt(input.seed) });
const rowOf = (input) => input.row.map(([token, hex]) => [token, fixed.floatOf(hex)]);
const has = (input, name) => input.features.includes(name) || input.features.includes(FEATURES[name]);

function session(input) {
  const contract = contractOf(input);
  return { contract, prefix: Prefix.ofContract(contract, input.committed) };
}

function fixedValues({ name, inputs }) {
  if (name === 'F') return inputs.map((hex) => fixed.F(fixed.floatOf(hex)));
  const map = { L: fixed.L, G: fixed.G, W: fixed.W, S: fixed.S }[name];
  return inputs.map((value) => map(Number(value)));
}

function runDrafter(input) {
  const { contract } = session(input);
  const channel = new DraftChannel(contract, input.committed);
  const results = [];
  for (const step of input.steps) {
    if (step.propose) channel.propose(fieldsFromJson('PROPOSE', step.propose));
    else {
      channel.advance(fieldsFromJson('ADVANCE', step.advance));
      const { position, digest } = channel.verified;
      results.push({ position, digest, outstanding: channel.outstanding });
    }
  }
  return { results };
}

function runTrie(input) {
  const trie = new Trie(input.position, bytes(input.digest), {
    maxNodes: input.max_nodes,
    maxAhead: input.max_ahead,
    maxParked: input.max_parked,
  });
  const results = input.steps.map((step) => {
    const before = [...trie.waste];
    if (step.verify) {
      const nodes = trie.choose(step.verify.budget, step.verify.depth);
      return { paths: nodes.map((node) => trie.pathTo(node)) };
    }
    let moved = {};
    if (step.graft) trie.graft({ ...step.graft, base: bytes(step.graft.base) });
    else if (step.end) trie.end();
    else {
      const origins = trie.advance(step.advance.tokens, step.advance.accepted);
      moved = { position: trie.root.position, digest: trie.root.digest, origins };
    }
    const waste = trie.waste.map((count, i) => count - before[i]);
    return { ...moved, live: trie.live, parked: trie.parkedTokens, waste };
  });
  return { results, books: trie.accounts() };
}

function verdictOf(input) {
  const { contract, prefix } = session(input);
  const base = { position: prefix.position, digest: prefix.digest, context: contextOf(prefix.tokens) };
  const verify = fieldsFromJson('VERIFY', input.verify);
  return { verdict: walk(model(contract.model), contract, base, input.max_context, verify).verdict };
}

function judgeVerify(input) {
  const { contract, prefix } = session(input);
  const due = { round: input.round, position: prefix.position, digest: prefix.digest };
  const terms = { contract, maxNodes: input.max_nodes, maxContext: input.max_context, trees: has(input, 'TREES') };
  checkVerify(fieldsFromJson('VERIFY', input.verify), due, terms);
  return {};
}

function judgeVerdict(input) {
  const { contract, prefix } = session(input);
  const verify = fieldsFromJson('VERIFY', input.verify);
  const verdict = fieldsFromJson('VERDICT', input.verdict);
  const { path, tokens } = checkVerdict(verdict, verify, prefix, contract, input.max_context);
  return { path, tokens };
}

function judgePropose(input) {
  const features = { trees: has(input, 'TREES'), scores: has(input, 'SCORES') };
  checkPropose(fieldsFromJson('PROPOSE', input.propose), contractOf(input), features);
  return {};
}

function runAdopt(input) {
  const reports = input.reports
    .map(({ member, enlisted }) => ({ member, enlisted: fieldsFromJson('ENLISTED', enlisted) }))
    .sort((a, b) => a.member - b.member);
  const chain = quorum.adopt({ ...input, contract: contractOf(input), reports });
  if (!chain) return { ready: false };
  const prepares = chain.counted.map(({ member, enlisted }) => ({
    member,
    prepare: quorum.firstPrepare(input.view, chain, enlisted.committed),
  }));
  const { prefix, height, finish } = chain;
  return { ready: true, position: prefix.position, digest: prefix.digest, height, finish, prepares: chain.again ? prepares : [] };
}

function runVoter(input) {
  const voter = new Voter(bytes(input.own));
  const results = input.steps.map((step) => {
    if (step.lost !== undefined) {
      voter.lost(step.lost);
      return [];
    }
    const sent = voter.take(step.channel, bytes(step.from), step.type, fieldsFromJson(step.type, step.fields));
    return sent.map(({ channel, type, fields, refusal }) =>
      refusal ? { channel, type, code: refusal.code } : { channel, type, fields });
  });
  return { results };
}

const named = (spki) => {
  const id = identity.nodeId(bytes(spki));
  return { node_id: id, text: identity.nodeIdText(id) };
};

export const FUNCTIONS = {
  philox: ({ counter, key }) => ({ words: philox4x32(counter, key) }),
  word: ({ seed, domain, position, token }) => ({ word: wordOf(BigInt(seed), domain, BigInt(position), token) }),
  tables: () => ({ LOG2: fixed.digestOf(fixed.LOG2), TAIL: fixed.digestOf(fixed.TAIL), EXP2: fixed.digestOf(fixed.EXP2) }),
  fixed: (input) => ({ values: fixedValues(input) }),
  choose: (input) => coupled.choose(rowOf(input), samplingOf(input), BigInt(input.position)),
  siblings: (input) => ({ tokens: coupled.siblings(rowOf(input), samplingOf(input), BigInt(input.position), input.count) }),
  score: ({ weight, total }) => ({ score: coupled.scoreOf(weight, total) }),
  tm1_name: ({ name }) => ({ canonical: model(name).name }),
  tm1_row: (input) => {
    const context = contextOf(input.prefix);
    const logits = row(model(input.model), context).map(([token, logit]) => [token, fixed.bitsOf(logit)]);
    return { context: context.toString(16).padStart(16, '0'), row: logits };
  },
  tm1_stream: (input) => ({ tokens: stream(model(input.model), input.prompt, samplingOf(input), input.count) }),
  tm1_offer: (input) => offer(model(input.model)),
  vocabulary: ({ entries }) => ({ digest: vocabularyDigest(entries.map(bytes)) }),
  prefix: ({ contract, tokens }) => {
    const digests = [sha256(bytes(contract))];
    for (const token of tokens) digests.push(extend(digests.at(-1), token));
    return { digests };
  },
  contract: (input) => {
    const encoding = encodeContract(contractOf(input));
    return { encoding, digest: sha256(encoding) };
  },
  negotiate: ({ acceptor, dialer }) => negotiate(bytes(acceptor), bytes(dialer)),
  checked: (input) => ({ text: identity.checked(bytes(input.bytes)) }),
  node_id: ({ spki }) => named(spki),
  read_node_id: ({ text }) => ({ node_id: identity.readNodeId(text) }),
  statement: ({ context, payload }) => ({ statement: identity.statement(context, bytes(payload)) }),
  sign: ({ scalar, context, payload }) => ({
    signature: identity.sign(bytes(scalar), identity.statement(context, bytes(payload))),
  }),
  verify_signature: ({ spki, context, payload, signature }) => ({
    valid: identity.verifySignature(bytes(spki), identity.statement(context, bytes(payload)), bytes(signature)),
  }),
  join_token: (input) => {
    const [cluster, authority, id, secret] = [input.cluster, input.authority, input.secret_id, input.secret].map(bytes);
    const { addresses, expires } = input;
    return { text: join.writeToken({ cluster, authority, secret_id: id, secret, expires: integer(expires), addresses }) };
  },
  read_join_token: ({ text }) => join.readToken(text),
  check_join: (input) => {
    const token = { secret_id: bytes(input.secret_id), secret: bytes(input.secret), expires: input.expires };
    return { node_id: join.checkJoin(token, input.now, fieldsFromJson('JOIN', input.join)) };
  },
  check_joined: (input) => {
    const own = { cluster: bytes(input.cluster), authority: bytes(input.authority), spki: bytes(input.spki) };
    join.checkJoined(own, fieldsFromJson('JOINED', input.joined));
    return {};
  },
  read_txt: ({ strings }) => readTxt(strings.map(bytes)),
  check_propose: judgePropose,
  drafter: runDrafter,
  trie: runTrie,
  verdict: verdictOf,
  check_verify: judgeVerify,
  check_verdict: judgeVerdict,
  turn: ({ promised, number, n }) => quorum.turn(promised, number, n),
  committed: ({ n, heights }) => quorum.committedHeight(n, heights),
  adopt: runAdopt,
  voter: runVoter,
};
