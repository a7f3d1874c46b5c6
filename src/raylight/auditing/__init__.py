"""Audits of data sets (files, metadata baseline, labels) and of what a network relies on (shortcuts)."""
