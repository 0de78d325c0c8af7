"""The command line, one module a command; ``terminal.py`` is what they
share, ``main.py`` the program.

May import everything. Imported by: nothing.
"""
