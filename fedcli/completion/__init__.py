"""Completion of commands, options and values in a shell, which must not wait.

It imports neither typer nor numpy: what there is to complete stands in ``catalogue.json``, which
``docs/option_tables.py`` writes from the declarations of the options.
"""
