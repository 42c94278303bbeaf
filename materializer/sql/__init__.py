"""Compiled SQL, read once: what columns are made from, what they mean, and what in them depends on the moment of the run."""
