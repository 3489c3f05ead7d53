"""The front end: HTTP requests in, messages to actors out. Each line imports only from the lines above it.

errors.py logs.py                       domain errors as problem+json; log formats
hypercorn/                              what Hypercorn and Quart leave undone
bodies/                                 request bodies, decoded and judged
answers/                                response bodies in all their formats
traffic.py                              the count and duration of every request
gate.py                                 what every request passes on its way to a handler
freshness.py         the age of features
metrics.py                              the figures of `GET /metrics`
asking.py                               the features and entities that a read asks for
training_request.py                     the columns and options of a training set
training_rows.py                        its rows
chapter.py                              how a route describes itself
openapi.py                              the OpenAPI document, made from those descriptions
routes/                                 the routes, by chapters of the contract
app.py fastlane.py                      the Quart-Trio application; hot requests, answered before it sees them
process.py                              actors and front end, from the start to a signal
commands/                               the commands that work on a storage itself
cli.py                                  the `timewell` command, `serve` included
__main__.py                             `python -m web`
"""
