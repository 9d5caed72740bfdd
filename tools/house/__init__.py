"""What the house looks like in numbers: `python -m tools.house`, or `nox -s house`.

`sizes` counts lines, functions and constructors, `hops` what a call passes on its way to the store, `phrases`
stock phrases in docstrings, `imports` circles and arrows between folders; `source` parses the modules, `report`
prints. The numbers are there to be compared, between two trees or two dates: none of them is a limit. Nothing here
is part of the package.
"""
