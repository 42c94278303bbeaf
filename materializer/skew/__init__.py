"""Served features against the warehouse: which differ from the point-in-time join at their moment, and why."""
