"""The front end: HTTP in, actor messages out. Each line imports only from the lines above it.

errors.py logs.py                       one table from domain errors to problem+json; log lines
hypercorn/                              what is here because Hypercorn is as it is
bodies/                                 what comes in
answers/                                what goes out
traffic.py                              what requests came, and how they fared
gate.py                                 what every request passes
freshness.py training_request.py        how old everything is; a training set as it is asked for
metrics.py                              figures
chapter.py                              how a route describes itself
openapi.py                              the OpenAPI document of such descriptions
routes/                                 the routes, chapter by chapter
app.py fastlane.py                      the Quart-Trio application; hot requests before the framework sees them
process.py                              actors and front end until a signal
commands/                               the commands of the server
cli.py                                  the command
__main__.py                             `python -m web`
"""
