"""Reports: what run directories hold, collected, compared, and written out.

``collect`` reads one run; ``clients`` describes each client over all its rounds; ``compare`` puts
several runs side by side, judged by what ``headline`` chooses. ``notes`` names what is missing,
``absences`` who was left out, ``standouts`` whose update is unlike the others. ``columns`` declares
every column once; from there ``tables`` and ``client_tables`` make the tables that ``terminal``,
``markdown`` and ``page`` (HTML) show, and ``tidy`` the CSV. Nothing here imports torch; only
``page`` imports matplotlib and jinja2.
"""
