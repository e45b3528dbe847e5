"""Runs elsewhere: finished files are sent to a folder, a store or a bundle, and fetched from it."""
