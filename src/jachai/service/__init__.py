"""Use cases: what the command line, the page and the node can ask for."""
