"""Arrays in, numbers out: how good a detector is, where, how surely, and within which bounds."""
