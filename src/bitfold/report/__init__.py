"""One self-contained HTML page about a run: no scripts, nothing fetched from anywhere."""
