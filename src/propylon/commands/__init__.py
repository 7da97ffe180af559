"""What the command line does: one module a command; `propylon.cli` parses and prints.

check · routes · explain (over trial and contest) · demo (over tryout)
"""
