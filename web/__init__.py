"""The front end: HTTP in, actor messages out.

schema.py     request bodies and answers as msgspec structs
errors.py     one table from domain errors to problem+json
requests.py   reading bodies and query strings
pages.py      cursors
routes/       a blueprint per chapter of the contract
openapi.py    the OpenAPI document, out of the schemas
app.py        the Quart-Trio application
logs.py serve.py cli.py __main__.py   the process
"""
