"""Runs inside the sandbox: readers of untrusted files."""
