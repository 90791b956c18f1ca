// Trees of draft tokens with parent numbers (SPEC.md section 2.1): 0 is the base, j the j-th node.

export class Tree {
  /** Without parents a chain. */
  constructor(tokens, parents) {
    this.tokens = tokens;
    this.parents = parents ? [...parents] : tokens.map((_, i) => i);
    this.depths = [0];
    this.children = new Map(); // "parent:token" to node number
    this.twice = null; // a token that stands twice below one node (D-3)
    tokens.forEach((token, i) => {
      const key = `${this.parents[i]}:${token}`;
      if (this.children.has(key)) this.twice ??= token;
      else this.children.set(key, i + 1);
      this.depths.push(this.depths[this.parents[i]] + 1);
    });
  }

  child(node, token) {
    return this.children.get(`${node}:${token}`);
  }

  get depth() {
    return this.depths.reduce((a, b) => Math.max(a, b), 0);
  }

  /** Node numbers from the top down to `node`. */
  path(node) {
    const numbers = [];
    for (let at = node; at > 0; at = this.parents[at - 1]) numbers.unshift(at);
    return numbers;
  }

  token(node) {
    return this.tokens[node - 1];
  }
}
