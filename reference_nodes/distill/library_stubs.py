"""Function stubs from the running interpreter's standard library: its own signatures and docstrings.

They are Python's (PSF licence), read at run time for use as prompts; none of them is stored in this repository.
"""

from __future__ import annotations

import importlib
import inspect

STDLIB = [
    "statistics",
    "textwrap",
    "itertools",
    "collections",
    "string",
    "math",
    "random",
    "shutil",
    "calendar",
    "datetime",
    "difflib",
    "json",
    "os",
    "os.path",
    "heapq",
    "bisect",
    "functools",
    "operator",
    "re",
    "glob",
    "fnmatch",
    "hashlib",
    "base64",
    "binascii",
    "colorsys",
    "copy",
    "csv",
    "fractions",
    "decimal",
    "html",
    "keyword",
    "linecache",
    "locale",
    "mimetypes",
    "numbers",
    "pprint",
    "queue",
    "secrets",
    "shlex",
    "struct",
    "tempfile",
    "textwrap",
    "time",
    "tokenize",
    "types",
    "typing",
    "unicodedata",
    "urllib.parse",
    "uuid",
    "zlib",
    "ipaddress",
    "inspect",
    "ast",
    "dis",
    "contextlib",
    "abc",
    "argparse",
    "configparser",
    "enum",
    "gettext",
    "getopt",
    "io",
    "logging",
    "pathlib",
    "pickle",
    "platform",
    "sched",
    "signal",
    "socket",
    "stat",
    "subprocess",
    "threading",
    "timeit",
    "traceback",
    "warnings",
    "weakref",
    "xml.dom.minidom",
    "zipfile",
    "tarfile",
    "email.utils",
    "http.client",
]


def stdlib_stubs() -> list[str]:
    """Stubs of the public functions and methods of STDLIB, in a fixed order for one interpreter version."""
    found: dict[str, str] = {}
    for module_name in STDLIB:
        try:
            module = importlib.import_module(module_name)
        except ImportError:  # some modules exist on some systems only
            continue
        owners = [
            module,
            *(v for _, v in sorted(vars(module).items()) if inspect.isclass(v) and v.__module__ == module_name),
        ]
        for owner in owners:
            for name, function in sorted(vars(owner).items()):
                doc = inspect.getdoc(function) if callable(function) and not inspect.isclass(function) else None
                if (
                    name.startswith("_")
                    or not doc
                    or not 30 < len(doc) < 700
                    or getattr(function, "__module__", "") not in (None, module_name)
                ):
                    continue
                try:
                    signature = str(inspect.signature(function))
                except (TypeError, ValueError):
                    continue
                if " at 0x" not in signature:
                    text = doc.replace('"""', "'''").replace("\n", "\n    ")
                    found.setdefault(name, f'def {name}{signature}:\n    """{text}\n    """\n')
    return list(found.values())
