"""The set-up of the DSD paper (arXiv 2511.21669) on the protocol's own machines: ``dsdp sim paper``."""
