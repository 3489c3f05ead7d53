"""The expression language: parsed once, checked against types, evaluated over columns or for one row.

The page `docs/expressions.md` says what each operator means. Nothing of the text is ever run as Python.

scanning.py                     the text as tokens; errors that name the column
node.py                         a part of an expression: its type, and how it is evaluated
arithmetic.py                   numbers and timestamps
texts.py logic.py               texts; true, false and null
comparisons.py                  comparisons and membership
functions.py                    functions by name
parsing.py                      from tokens to nodes; the interface of this package
"""
