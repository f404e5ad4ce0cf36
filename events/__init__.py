"""The contract between the front end and the workers: models and pure functions, no I/O."""
