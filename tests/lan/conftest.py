"""Says once why namespaces are not used, where they are not."""

from __future__ import annotations

import pytest

from tests.lan.lan import kinds, namespaces_fault


def pytest_report_header(config: pytest.Config) -> str:
    return f"lan tests: {why()}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if namespaces_fault():
        terminalreporter.write_line(f"lan tests: {why()}")


def why() -> str:
    if fault := namespaces_fault():
        return f"on loopback through a fault proxy only, since network namespaces cannot be used here: {fault}"
    return f"on {' and '.join(kinds())}"
