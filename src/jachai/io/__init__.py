"""Paths → Volumes + a reason for every file left over; Volumes → files."""
