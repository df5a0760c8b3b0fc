"""Entries of data sets + models → tables, plots and a page on which they can be compared, all on the same cases."""
