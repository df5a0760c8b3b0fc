"""Volume + detector → candidates, score, verdict: the scan result."""
