"""Affinity: which categories each customer is drawn to, from pairs of customers and categories."""
