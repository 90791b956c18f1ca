"""The command ``dsdp-conformance``, also as ``python -m conformance``. Says what to install where that is missing."""

from __future__ import annotations

import sys

NEEDED = ("trio", "jinja2", "markupsafe")


def main() -> int:
    try:
        from conformance.cli import main as run
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in NEEDED:
            raise
        how = "`pip install 'dsdp[suite]'`, or `pip install -e '.[suite]'` in a checkout"
        print(f"dsdp-conformance: {error.name} is not installed; {how} installs what the suite needs", file=sys.stderr)
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
