"""Series without tampering → trained networks. Needs the extra `train` (torch)."""
