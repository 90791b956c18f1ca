export function replay() { throw new Error('not yet'); }
