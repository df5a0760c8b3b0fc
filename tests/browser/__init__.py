"""Real browser tests: Chromium against a real server; nothing is faked but the person."""
