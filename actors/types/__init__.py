"""The value types, one per file, and the constraints of a feature's schema.

type.py                                      the base class of value types
patterns.py arrow_contents.py                users' regular expressions; inspecting Arrow data before converting it
number.py boolean.py string.py timestamp.py  the value types
integer.py vector.py json.py                 the other value types
values.py                                    the registry of types; conversions between JSON, Arrow and columns
constraints.py                               the constraints of a feature's schema
"""
