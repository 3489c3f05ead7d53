"""Load on purpose: `demo` shows every route at work, `micro` measures parts, `python -m loadtest` drives a whole
service (run, find-limit, soak) and compares it with peers (compare). None of it is part of the product."""
