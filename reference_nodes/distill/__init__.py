"""Distil a small draft model from a target: target, prompts, generate, train, evaluate.

The steps are verbs of ``python -m reference_nodes.distill``; each one reads what the step before
it wrote, can be stopped and run again, and takes its seed as a flag.
"""
