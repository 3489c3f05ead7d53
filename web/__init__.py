"""The front end: HTTP in, actor messages out.

schema.py monitor_schema.py   request bodies and answers as msgspec structs
errors.py     one table from domain errors to problem+json
requests.py choices.py   reading bodies and query strings; which words a field takes
pages.py      cursors
routes/       a blueprint per chapter of the contract
openapi.py    the OpenAPI document, out of the schemas
rows.py lanes.py bulk.py      answers of many rows; the forms they go out in; the bulk forms that come in
app.py        the Quart-Trio application
commands/     the commands of timewell that speak to a service, over the client
client*.py    the Python client: each route once, for `Client` and `AsyncClient` (timewell.py at the top)
connections.py keepalive.py admission.py front.py traffic.py   what every connection and request goes through
http1.py http2.py untaken.py   what the server leaves undone; answers that wait for their clients
fastlane.py   hot requests, before the framework sees them
logs.py serve.py cli.py __main__.py   the process
"""
