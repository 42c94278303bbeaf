"""What exists, and whether it can be trusted."""
