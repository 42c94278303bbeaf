"""Point-in-time-correct training sets."""
