"""Benchmarks: each module prints one JSON object last on standard output."""
