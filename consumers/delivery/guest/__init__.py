"""Runs inside the sandbox: writers of the delivered formats."""
