"""The report: tables, plots, and one page on what was gained and what was forgotten."""
