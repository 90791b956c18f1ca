"""What a run leaves behind: one tree of data, and its renderings (terminal, JSON, JUnit XML, HTML)."""
