"""The result where the user wants it."""
