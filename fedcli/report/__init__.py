"""Reports: what run directories say, collected, compared, and written out.

``records`` reads the files, ``collect`` puts a run together, ``compare`` several. From there
``tables`` makes the tables that ``terminal``, ``markdown`` and ``page`` (HTML) show, and ``tidy``
the CSV. Nothing here imports torch; only ``page`` needs matplotlib.
"""
