"""Reads the logged runs, writes tables, plots and the report; never trains."""
