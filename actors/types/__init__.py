"""What a value may be: each type between JSON, Arrow and columns, and what a schema adds to it.

values.py                         what a type accepts, how it is kept, how it comes back
patterns.py                       regular expressions of users
constraints.py                    what a feature's schema adds
arrow_contents.py                 what is in Arrow columns, told before it is made
arrow_values.py                   Arrow columns as columns of a feature's type
"""
