"""What each file says: one typed record a file, which is both written and read."""
