"""Reports: what run directories say, collected, compared, and written out.

``collect`` reads the files, as ``records``, and puts a run together, with ``clients`` for what is
known of each over all rounds; ``compare`` several, by what ``headline`` chooses. ``notes`` says
what is missing, ``absences`` who was left out, ``standouts`` whose update is unlike the others.
From there ``tables`` and ``client_tables`` make the tables that ``terminal``, ``markdown`` and
``page`` (HTML) show, and ``tidy`` the CSV. Nothing here imports torch; only ``page`` needs
matplotlib.
"""
