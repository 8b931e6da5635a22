"""Other libraries: one module each, which imports that library when it is imported itself."""
