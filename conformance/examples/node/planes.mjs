// The planes as the node at one end of a channel follows them: what it holds, and what it refuses of what comes `in`.
// `out` is what it sends itself. Used for live channels and for recorded ones.

import { DraftChannel } from './drafting.mjs';
import { Prefix } from './prefix.mjs';
import { refuse } from './refusal.mjs';
import { finishOf } from './stream.mjs';
import { Tree } from './tree.mjs';
import { checkPropose, checkVerdict, checkVerify } from './verifying.mjs';

const nothing = () => {};

/** Session plane, either end: the prefix that the client holds by what passed here (S-7 to S-10, S-14). */
export class SessionPlane {
  /** contract: of the session, where this node knows it (RESUME does not say it). */
  constructor(opening, fields, contract) {
    this.contract = fields.contract ?? contract;
    this.quorum = opening === 'RESUME' || fields.contract.commit_profile === 2;
    this.prefix = opening === 'RESUME' ? new Prefix(fields.digest, fields.position) : Prefix.ofContract(fields.contract);
    this.start = this.prefix.position;
    this.finish = undefined;
    this.ended = false; // by a token that ends the stream
  }

  get tokens() {
    return this.prefix.tokensFrom(this.start);
  }

  in(name, fields) {
    if (name === 'OPENED') this.#opened(fields);
    if (name === 'BLOCK') this.#block(fields);
    if (name === 'END') this.#end(fields);
  }

  out(name, fields) {
    if (name === 'BLOCK') this.prefix.grow(fields.tokens);
    if (name === 'END') this.finish = fields.finish;
  }

  #opened({ position, model, profile, group }) {
    const { contract } = this;
    if (position !== this.start) throw refuse('PREFIX_UNKNOWN', 'S-7', `position ${position}, not ${this.start}`);
    if (contract?.model && model !== contract.model) throw refuse('MODEL_UNAVAILABLE', 'S-14', `model ${model}`);
    if (contract?.profile && !profile.equals(contract.profile)) throw refuse('PROFILE_MISMATCH', 'S-14', 'another profile');
    if (Boolean(group) !== this.quorum) throw refuse('MESSAGE_INVALID', 'Q-1', 'a group exactly under quorum');
  }

  #block({ position, tokens }) {
    const wrong = (text) => refuse('ADVANCE_INVALID', 'S-8', text);
    if (position !== this.prefix.position) throw wrong(`position ${position}, the prefix ends at ${this.prefix.position}`);
    tokens.forEach((token, i) => {
      if (this.ended) throw wrong('a token after the one that ended the stream');
      if (!this.contract) return;
      if (token >= this.contract.vocabulary_size) throw wrong(`token ${token} is outside the vocabulary`);
      this.ended = finishOf(this.contract, Infinity, position + i + 1, token) !== undefined;
    });
    this.prefix.grow(tokens);
  }

  #end({ position, digest, finish }) {
    if (position !== this.prefix.position || !digest.equals(this.prefix.digest)) {
      throw refuse('ADVANCE_INVALID', 'S-10', `END at ${position}, the blocks end at ${this.prefix.position}`);
    }
    this.finish = finish;
  }

  report() {
    const { position, digest } = this.prefix;
    return { position, digest, tokens: this.tokens, finish: this.finish };
  }
}

/** Draft plane, either end (D-3, D-4, D-6, D-7). */
export class DraftPlane {
  constructor({ contract, committed, credit }, connection) {
    this.channel = new DraftChannel(contract, committed);
    this.contract = contract;
    this.connection = connection;
    this.credit = credit;
    this.greatest = credit;
  }

  in(name, fields) {
    if (name === 'PROPOSE') {
      const features = { trees: this.connection.has('TREES'), scores: this.connection.has('SCORES') };
      checkPropose(fields, this.contract, features);
      this.channel.propose(fields); // D-4: every node counts, also those that are too many
      const count = this.channel.outstanding;
      if (count > this.greatest) throw refuse('CREDIT_EXCEEDED', 'D-6', `${count} of ${this.greatest} nodes`);
    }
    if (name === 'ADVANCE') this.#advance(fields);
  }

  out(name, fields) {
    if (name === 'PROPOSE') this.channel.propose(fields);
    if (name === 'ADVANCE') this.#advance(fields);
  }

  #advance(fields) {
    this.channel.advance(fields);
    if (fields.credit === undefined) return;
    this.credit = fields.credit;
    this.greatest = Math.max(this.greatest, fields.credit);
  }

  report() {
    const { position, digest } = this.channel.verified;
    return { position, digest, drafted: this.channel.drafted, outstanding: this.channel.outstanding, credit: this.credit };
  }
}

/** Verify plane, either end (V-1 to V-6, S-6, S-14). */
export class VerifyPlane {
  constructor({ contract, committed }, connection) {
    this.contract = contract;
    this.connection = connection;
    this.prefix = Prefix.ofContract(contract, committed);
    this.assigned = null;
    this.round = 1; // that is due
    this.verify = null; // that has no VERDICT yet
    this.verdicts = 0;
    this.ended = false;
  }

  in(name, fields) {
    if (name === 'ASSIGNED') this.#checkAssigned(fields);
    if (name === 'VERIFY') this.#checkVerify(fields);
    if (name === 'VERDICT') this.#checkVerdict(fields);
    this.#follow(name, fields);
  }

  out(name, fields) {
    this.#follow(name, fields);
  }

  #follow(name, fields) {
    if (name === 'ASSIGNED') this.assigned = fields;
    if (name === 'VERIFY') this.verify = fields;
    if (name !== 'VERDICT') return;
    const tree = new Tree(this.verify.tokens, this.verify.parents);
    this.path = tree.path(fields.accepted).map((node) => tree.token(node));
    const tokens = fields.token === undefined ? this.path : [...this.path, fields.token];
    this.prefix.grow(tokens);
    this.added = tokens;
    this.verify = null;
    this.verdicts += 1;
    this.round += 1;
    this.ended = fields.finish !== undefined;
  }

  #checkAssigned({ model, profile }) {
    const { contract } = this;
    if (contract.model && model !== contract.model) throw refuse('MODEL_UNAVAILABLE', 'S-14', `model ${model}`);
    if (contract.profile && !profile.equals(contract.profile)) throw refuse('PROFILE_MISMATCH', 'S-6', 'another profile');
  }

  #checkVerify(fields) {
    if (!this.assigned) throw refuse('MESSAGE_UNEXPECTED', 'V-1', 'VERIFY before ASSIGNED');
    if (this.verify) throw refuse('OVERLOADED', 'V-3', 'a VERIFY is waiting');
    if (this.ended) throw refuse('MESSAGE_UNEXPECTED', 'V-3', 'the stream has ended');
    const due = { round: this.round, position: this.prefix.position, digest: this.prefix.digest };
    const { max_nodes: maxNodes, max_context: maxContext } = this.assigned;
    checkVerify(fields, due, { contract: this.contract, maxNodes, maxContext, trees: this.connection.has('TREES') });
  }

  #checkVerdict(fields) {
    if (!this.verify) throw refuse('MESSAGE_UNEXPECTED', 'V-1', 'no VERDICT is due');
    checkVerdict(fields, this.verify, this.prefix, this.contract, this.assigned.max_context);
  }

  report() {
    const { position, digest } = this.prefix;
    return { position, digest, verdicts: this.verdicts, waiting: this.verify !== null };
  }
}

/** Commit plane, either end; what a voter judges is the business of its ledger (judge). */
export class CommitPlane {
  constructor({ view }, judge = nothing) {
    this.view = view;
    this.judge = judge;
    this.proposed = new Map(); // height to digest
    this.answered = false;
    this.committed = 0;
    this.voted = 0;
  }

  in(name, fields) {
    if (name === 'VOTE') {
      const known = fields.view === this.view && this.proposed.get(fields.height)?.equals(fields.digest);
      if (!known) throw refuse('LEDGER_MISMATCH', 'Q-24', `VOTE for block ${fields.height}, which was not proposed here`);
    }
    const early = (name === 'PREPARE' || name === 'COMMIT') && !this.answered;
    if (early) throw refuse('MESSAGE_UNEXPECTED', 'Q-10', `${name} before ENLISTED`);
    this.judge(name, fields);
    this.#follow(name, fields);
  }

  out(name, fields) {
    this.#follow(name, fields);
  }

  #follow(name, fields) {
    if (name === 'ENLISTED') this.answered = true;
    if (name === 'PREPARE') this.proposed.set(fields.height, fields.digest);
    if (name === 'COMMIT') this.committed = fields.position;
    if (name === 'VOTE') this.voted = fields.height;
  }

  report() {
    return { view: this.view, committed: this.committed, voted: this.voted };
  }
}
