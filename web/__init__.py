"""The front end: HTTP in, actor messages out. Each line imports only from the lines above it.

schema.py                               request bodies and answers as msgspec structs
monitor_schema.py                       those of monitoring
client_errors.py                        the Python client, each route once, for `Client` and `AsyncClient`:
client_times.py client_moments.py       errors; times; columns of moments;
client_plain.py                         values;
client_calls.py                         how a client asks;
client_arrow.py client_events.py        frames; events;
client_registry.py                      its chapters:
client_values.py client_monitoring.py   the registry, values, monitoring;
client_frames.py                        frames as routes;
client.py                               waiting or as a task
errors.py logs.py                       one table from domain errors to problem+json; log lines
hypercorn/                              what is here because Hypercorn is as it is
bodies/                                 what comes in
answers/                                what goes out
front.py                                what listens from the first moment
freshness.py training_request.py        how old everything is; a training set as it is asked for
metrics.py                              figures
chapter.py                              how a route describes itself
openapi.py                              the OpenAPI document of such descriptions
routes/                                 the routes, chapter by chapter
app.py fastlane.py                      the Quart-Trio application; hot requests before the framework sees them
process.py                              actors and front end until a signal
commands/                               the commands of timewell that speak to a service
cli.py                                  the command
__main__.py                             `python -m web`
"""
