"""File formats: one typed record per file, used for both writing and reading."""
