"""What the command line does; `propylon.cli` parses and prints.

check · routes · explain (over trial and contest) · files (init) · demo (over tryout) · own (run --app)
· user · token
"""
