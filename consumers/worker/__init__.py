"""How a message becomes a job and ends; knows no domain."""
