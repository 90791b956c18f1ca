"""Measurements that anyone can repeat: `dsdp bench identity`, `dsdp bench speed`, `dsdp bench wire`."""
