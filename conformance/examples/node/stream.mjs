// When a stream ends (S-9), for everybody who has to know it.

import { FINISH } from './registry.mjs';

/** Finish code of a prefix of that length whose last token (after the prompt) is `token`, or undefined. */
export function finishOf(contract, maxContext, position, token) {
  if (contract.stop_tokens.includes(token)) return FINISH.STOP_TOKEN;
  if (position - contract.prompt.length >= contract.max_tokens) return FINISH.LENGTH;
  if (position >= maxContext) return FINISH.CONTEXT_FULL;
  return undefined;
}
