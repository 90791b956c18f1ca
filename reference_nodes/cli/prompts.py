"""Prompts for commands that are given none: reasoning, prose and code, as targets and drafters differ in all three."""

from __future__ import annotations

from reference_nodes.cli.options import Prompt

USUAL = (
    Prompt("A train leaves at 3 pm at 60 km/h. When has it gone 150 km?"),
    Prompt("Explain in a few sentences why the sky is blue and the evening sun is red."),
    Prompt("Write a Python function that returns the second largest number of a list, and explain how it works."),
    Prompt("Anna has 24 apples. She gives a third to Ben and two to each of her three sisters. How many are left?"),
    Prompt("Write a short story about a lighthouse keeper who finds a letter in a bottle."),
    Prompt("List five things to check before a long bicycle tour, with one sentence about each."),
    Prompt("Translate into plain English: the aforementioned party shall henceforth refrain from the said conduct."),
    Prompt("Write a SQL query that counts the orders of each customer in the last month, and explain each clause."),
)
