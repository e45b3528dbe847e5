"""Reports: what run directories say, collected, compared, and written out.

``collect`` reads the files, as ``records``, and puts a run together, ``compare`` several, by what
``headline`` chooses. From there ``tables`` makes the tables that ``terminal``, ``markdown`` and
``page`` (HTML) show, and ``tidy`` the CSV. Nothing here imports torch; only ``page`` needs
matplotlib.
"""
