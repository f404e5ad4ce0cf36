"""The workers: what happens to a drop."""
