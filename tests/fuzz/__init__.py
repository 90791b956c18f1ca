"""Fuzz targets; each runs without a fuzzer over its corpus, as part of the tests."""
