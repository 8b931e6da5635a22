"""A study on disk: its files, their schema, the folder, and reading it back."""
