"""Reference nodes: the sans-IO role machines of `dsdproto` run with Trio, real sockets and real models."""
