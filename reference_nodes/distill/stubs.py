"""Python function stubs with docstrings and doctests, for a model to complete.

Each specification below is run on random inputs, so the doctests are right.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import pairwise


def _ints(r: random.Random) -> list[int]:
    return [r.randint(-9, 20) for _ in range(r.randint(2, 6))]


def _positive(r: random.Random) -> list[int]:
    return [r.randint(1, 30) for _ in range(r.randint(2, 6))]


def _word(r: random.Random) -> str:
    return r.choice(
        [
            "apple",
            "river",
            "stone",
            "level",
            "Python",
            "banana",
            "noon",
            "cloud",
            "Tiger",
            "kayak",
            "window",
            "Mirror",
            "zebra",
            "hello",
            "planet",
            "radar",
            "queen",
        ]
    )


def _text(r: random.Random) -> str:
    return " ".join(_word(r) for _ in range(r.randint(2, 5)))


def _words(r: random.Random) -> list[str]:
    return [_word(r) for _ in range(r.randint(1, 5))]


def _n(r: random.Random) -> int:
    return r.randint(1, 40)


PREDICATES: dict[str, Callable[[int], bool]] = {
    "even": lambda x: x % 2 == 0,
    "odd": lambda x: x % 2 == 1,
    "negative": lambda x: x < 0,
    "greater than ten": lambda x: x > 10,
    "divisible by three": lambda x: x % 3 == 0,
    "non-zero": lambda x: x != 0,
    "single digit": lambda x: -10 < x < 10,
    "a perfect square": lambda x: x >= 0 and int(x**0.5 + 0.5) ** 2 == x,
    "a multiple of five": lambda x: x % 5 == 0,
}
TEXT_TESTS: dict[str, Callable[[str], bool]] = {
    "vowels": lambda c: c.lower() in "aeiou",
    "uppercase letters": str.isupper,
    "lowercase letters": str.islower,
    "spaces": str.isspace,
    "letters after m": lambda c: c.lower() > "m",
}
# (name, parameters with types, result type, description, inputs, reference)
Spec = tuple[str, str, str, str, list[Callable[[random.Random], object]], Callable[..., object]]


def _specs() -> Iterator[Spec]:
    for what, test in PREDICATES.items():
        slug = what.replace(" ", "_").replace("-", "_").removeprefix("a_")
        yield (
            f"count_{slug}",
            "numbers: list[int]",
            "int",
            f"Count the numbers in the list that are {what}.",
            [_ints],
            lambda v, t=test: sum(map(t, v)),
        )
        yield (
            f"sum_{slug}",
            "values: list",
            "int",
            f"Return the sum of all values that are {what}.",
            [_ints],
            lambda v, t=test: sum(x for x in v if t(x)),
        )
        yield (
            f"filter_{slug}",
            "nums",
            "list",
            f"Given a list of integers, keep those that are {what}, in order.",
            [_ints],
            lambda v, t=test: [x for x in v if t(x)],
        )
        yield (
            f"first_{slug}",
            "lst: List[int]",
            "Optional[int]",
            f"Return the first element that is {what}, or None.",
            [_ints],
            lambda v, t=test: next((x for x in v if t(x)), None),
        )
        yield (
            f"any_{slug}",
            "arr",
            "bool",
            f"Check whether any number in arr is {what}.",
            [_ints],
            lambda v, t=test: any(map(t, v)),
        )
        yield (
            f"index_of_last_{slug}",
            "arr",
            "int",
            f"Find the index of the last number that is {what}; -1 if there is none.",
            [_ints],
            lambda v, t=test: max((i for i, x in enumerate(v) if t(x)), default=-1),
        )
    for what, test2 in TEXT_TESTS.items():
        slug = what.replace(" ", "_")
        yield (
            f"count_{slug}",
            "text: str",
            "int",
            f"Count the {what} in text.",
            [_text],
            lambda s, t=test2: sum(map(t, s)),
        )
        yield (
            f"strip_{slug}",
            "s: str",
            "str",
            f"Return s without its {what}.",
            [_text],
            lambda s, t=test2: "".join(c for c in s if not t(c)),
        )
        yield (
            f"only_{slug}",
            "s",
            "str",
            f"Keep only the {what} of the string s.",
            [_text],
            lambda s, t=test2: "".join(c for c in s if t(c)),
        )
    yield (
        "reverse_words",
        "sentence: str",
        "str",
        "Reverse the order of the words.",
        [_text],
        lambda s: " ".join(s.split()[::-1]),
    )
    yield (
        "capitalize_all",
        "text: str",
        "str",
        "Capitalize the first letter of every word.",
        [_text],
        lambda s: s.title(),
    )
    yield (
        "word_lengths",
        "words: List[str]",
        "List[int]",
        "Return the length of each word.",
        [_words],
        lambda w: [len(x) for x in w],
    )
    yield (
        "longest_word",
        "words: list",
        "str",
        "Return the longest word; the first one if several.",
        [_words],
        lambda w: max(w, key=len),
    )
    yield "mirror", "word: str", "str", "Return the word followed by its reverse.", [_word], lambda s: s + s[::-1]
    yield (
        "initials",
        "text: str",
        "str",
        "Return the first letters of the words, in upper case.",
        [_text],
        lambda s: "".join(x[0].upper() for x in s.split()),
    )
    yield (
        "char_count",
        "text: str",
        "Dict[str, int]",
        "Map each character to how often it occurs.",
        [_word],
        lambda s: {c: s.count(c) for c in s},
    )
    yield (
        "double_all",
        "numbers: List[int]",
        "List[int]",
        "Return a list with every number doubled.",
        [_ints],
        lambda v: [2 * x for x in v],
    )
    yield (
        "running_sum",
        "numbers: List[int]",
        "List[int]",
        "Return the cumulative sums.",
        [_ints],
        lambda v: [sum(v[: i + 1]) for i in range(len(v))],
    )
    yield (
        "product",
        "values: List[int]",
        "int",
        "Multiply all values together.",
        [_positive],
        lambda v: __import__("math").prod(v),
    )
    yield (
        "second_smallest",
        "xs: List[int]",
        "Optional[int]",
        "Return the second smallest distinct value, or None.",
        [_ints],
        lambda v: sorted(set(v))[1] if len(set(v)) > 1 else None,
    )
    yield (
        "spread",
        "xs: List[float]",
        "float",
        "Difference between the largest and the smallest element.",
        [_ints],
        lambda v: max(v) - min(v),
    )
    yield (
        "pairwise_sums",
        "xs: List[int]",
        "List[int]",
        "Return the sums of neighbouring elements.",
        [_ints],
        lambda v: [a + b for a, b in pairwise(v)],
    )
    yield (
        "rotate_left",
        "items: list, k: int",
        "list",
        "Rotate the list k places to the left.",
        [_ints, _n],
        lambda v, k: v[k % len(v) :] + v[: k % len(v)],
    )
    yield (
        "chunk",
        "items: list, size: int",
        "list",
        "Split the list into pieces of at most size elements.",
        [_ints, lambda r: r.randint(1, 3)],
        lambda v, n: [v[i : i + n] for i in range(0, len(v), n)],
    )
    yield (
        "dedupe",
        "items: list",
        "list",
        "Remove repeated elements but keep the order.",
        [_ints],
        lambda v: list(dict.fromkeys(v)),
    )
    yield (
        "common",
        "a: list, b: list",
        "list",
        "Return the sorted elements found in both lists.",
        [_positive, _positive],
        lambda a, b: sorted(set(a) & set(b)),
    )
    yield (
        "interleave",
        "a: list, b: list",
        "list",
        "Take elements from a and b in turn.",
        [_ints, _ints],
        lambda a, b: [x for p in zip(a, b) for x in p],
    )
    yield "digit_sum", "n: int", "int", "Return the sum of the digits of n.", [_n], lambda n: sum(map(int, str(n)))
    yield (
        "count_divisors",
        "n: int",
        "int",
        "How many positive integers divide n?",
        [_n],
        lambda n: sum(n % i == 0 for i in range(1, n + 1)),
    )
    yield (
        "is_triangular",
        "n: int",
        "bool",
        "Check whether n is a triangular number.",
        [_n],
        lambda n: any(i * (i + 1) // 2 == n for i in range(n + 1)),
    )
    yield (
        "squares_up_to",
        "n: int",
        "List[int]",
        "List the squares that do not exceed n.",
        [_n],
        lambda n: [i * i for i in range(1, n + 1) if i * i <= n],
    )
    yield "to_binary", "n: int", "str", "Return the binary digits of n without a prefix.", [_n], lambda n: f"{n:b}"
    yield (
        "celsius",
        "fahrenheit: float",
        "float",
        "Convert a temperature to degrees Celsius, to one decimal.",
        [_n],
        lambda f: round((f - 32) * 5 / 9, 1),
    )
    yield (
        "clamp",
        "x: int, low: int, high: int",
        "int",
        "Limit x to the range from low to high.",
        [_n, lambda r: r.randint(0, 9), lambda r: r.randint(10, 30)],
        lambda x, a, b: max(a, min(b, x)),
    )
    yield (
        "gcd_of_list",
        "numbers: List[int]",
        "int",
        "Greatest common divisor of all numbers.",
        [_positive],
        lambda v: __import__("math").gcd(*v),
    )
    yield "collatz_steps", "n: int", "int", "Count the Collatz steps from n down to 1.", [_n], _collatz


def _collatz(n: int) -> int:
    steps = 0
    while n > 1:
        n, steps = (n // 2 if n % 2 == 0 else 3 * n + 1), steps + 1
    return steps


SPECS: list[Spec] = list(_specs())
LEADS = ["", "", "", "In this task, ", "Write a function that does the following. ", "Implement this function: "]


def spec_stub(rng: random.Random) -> str:
    """A stub from a specification, with up to four doctests or arrow examples."""
    name, params, result, text, inputs, reference = rng.choice(SPECS)
    name = rng.choice(["", "", "", "get_", "my_", "solve_"]) + name
    typed = rng.random() < 0.6
    if not typed:
        params = ", ".join(p.split(":")[0] for p in params.split(", "))
    lines, style = [], rng.randrange(4)
    for _ in range(rng.randint(0, 4)):
        values = [make(rng) for make in inputs]
        call, value = f"{name}({', '.join(map(repr, values))})", reference(*values)
        lines.append(
            [f">>> {call}\n    {value!r}", f"{call} == {value!r}", f"{call} => {value!r}", f"{call} # => {value!r}"][
                style
            ]
        )
    lead = rng.choice(LEADS)
    body = lead + (text[0].lower() if lead.endswith(", ") else text[0]) + text[1:]
    if style and lines:
        lines.insert(0, rng.choice(["For example:", "Examples:", "Example:"]))
    quote = '"""' if rng.random() < 0.8 else "'''"
    sep = "\n    " if rng.random() < 0.5 else " "
    doc = "\n    ".join([f"{quote}{sep}{body}".rstrip(), *lines, quote])
    header = (
        "from typing import List, Optional, Dict\n\n\n"
        if typed and ("L" in params or "[" in result)
        else rng.choice(["", "\n", "\n\n"])
    )
    return f"{header}def {name}({params}){f' -> {result}' if typed else ''}:\n    {doc}\n"
