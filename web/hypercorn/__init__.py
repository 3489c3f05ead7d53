"""What is here because Hypercorn and Quart are as they are. Each file says what would have to change there.

places.py targets.py              how many connections; what a request asks for, in a form that both take
streamed_body.py untaken.py       bodies as they come; answers that wait for their clients
admission.py                      how many bytes of bodies are under way
http1.py http2.py keepalive.py    what is left undone of either version, and of connections that are kept
connections.py                    one connection at fault ends alone
listening.py                      accepting many at a time
"""
