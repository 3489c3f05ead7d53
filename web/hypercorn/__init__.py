"""What Hypercorn and Quart leave undone. Each file says what would have to change there for it to go.

places.py targets.py              a bound on connections; request targets in a form that both understand
streamed_body.py untaken.py       bodies read as they arrive; answers that wait for slow clients
admission.py                      a bound on the bytes of bodies under way
http1.py http2.py keepalive.py    gaps in HTTP/1.1, in HTTP/2 and in kept connections
connections.py                    a faulty connection ends alone
listening.py                      accepting many connections at a time
"""
