"""How a testee is reached: a subprocess that talks JSON lines, or an address to dial."""
