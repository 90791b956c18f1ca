export const LIVE_ROLES = [];
export const start = () => { throw new Error('not yet'); };
export const stop = start;
export const reset = () => ({});
