"""HTTP → one call into `service` → JSON, pictures and files: the server of `jachai serve` (extra `web`)."""
