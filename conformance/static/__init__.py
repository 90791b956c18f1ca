"""Rung 1: vectors. `cases` makes a case of each; `make_*` write the files of `conformance/vectors`."""
