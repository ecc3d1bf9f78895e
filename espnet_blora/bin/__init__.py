"""Programs: one thin module each, with `get_parser()` and `main()`."""
