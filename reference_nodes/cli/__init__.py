"""The command line `dsdp`: one small module per command, each with ``add(parsers)`` and ``run(args) -> exit code``."""
