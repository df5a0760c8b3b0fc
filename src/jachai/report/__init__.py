"""Examination → a report that a physician can read (HTML), and the JSON Schema of the result."""
