"""A study: what is run, where, and what it leaves on disk."""
