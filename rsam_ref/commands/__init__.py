"""The command line, one module a command.

``main.py`` is the program, ``terminal.py`` what the commands share.

May import everything. Imported by: nothing.
"""
