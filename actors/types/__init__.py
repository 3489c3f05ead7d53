"""What a value may be: one type a file, and what a schema adds to it.

type.py                                      what each type says of itself
patterns.py arrow_contents.py                regular expressions of users; what is in Arrow, told before it is made
number.py boolean.py string.py timestamp.py  the types
integer.py vector.py json.py                 the other types
values.py                                    all of them: values between JSON, Arrow and columns
constraints.py                               what a feature's schema adds
"""
