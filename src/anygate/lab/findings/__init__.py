"""The findings of a study: comparisons, the verdict in sentences, and advice."""
