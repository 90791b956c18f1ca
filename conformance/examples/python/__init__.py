"""A testee in Python, on the package `dsdproto`: python -m conformance.examples.python"""
