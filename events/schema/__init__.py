"""JSON Schema of the contract, generated from the models; checked against drift."""
