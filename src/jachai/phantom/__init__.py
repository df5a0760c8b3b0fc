"""Seed and size → a chest CT or brain MRI made by code, with the noise of a real scanner."""
