"""Complete testees: small programs that speak the exec door."""
