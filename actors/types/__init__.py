"""What a value may be: each type between JSON, Arrow and columns, and what a schema adds to it.

values.py                         what a type accepts, how it is kept, how it comes back
patterns.py                       regular expressions of users
constraints.py                    what a feature's schema adds
arrow_plain.py                    Arrow columns without dictionaries, runs, views
arrow_objects.py                  Arrow values as the objects that encode to their JSON
arrow_values.py                   Arrow columns as columns of a feature's type
"""
