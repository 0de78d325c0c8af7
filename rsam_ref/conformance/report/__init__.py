"""The report: the catalogue of all findings, the report in words and JSON, the picture.

May import: the stages' ``findings.py``. Imported by: teaching (the catalogue) and commands.
"""
