"""Reports: what run directories hold, collected, compared, and written out.

``collect`` reads one run into a ``run_report``; ``clients`` describes each client over all its
rounds; ``compare`` puts several runs side by side in a ``report``, judged by what ``headline``
chooses. ``notes`` names what is missing, ``absences`` who was left out, ``standouts`` whose update
is unlike the others. ``columns`` and ``comparison_columns`` declare every column once; from there
``tables``, ``score_tables``, ``client_tables``, ``method_tables`` and ``recipe_tables`` make the
tables that ``terminal``, ``markdown``, ``latex`` and ``page`` (HTML) show. ``figures`` chooses the
figures, which are ``diagrams``: ``charts`` draws them for the page, ``plots`` for files.
``measurements`` walks every value of a run and ``settings`` says how it was made: ``tidy`` makes
one table of both, as CSV and Parquet. Nothing here imports torch; only ``plots``, with what it
draws by, imports matplotlib, only ``page`` jinja2, and only ``tidy`` pyarrow.
"""
