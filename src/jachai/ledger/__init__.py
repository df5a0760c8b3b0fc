"""Files → "same / header changed / pixels changed here / never seen", from a log that cannot be edited unnoticed."""
