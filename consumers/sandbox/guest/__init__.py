"""What runs inside the walls. Starts with an empty environment; imports as little as it can."""
