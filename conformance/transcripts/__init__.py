"""Rung 2: recorded connections. `cases` makes a case of each file's entries; `make` records and writes them."""

from pathlib import Path

HERE = Path(__file__).parent
"""Where the files are."""
KIND = "transcripts"
