"""Real series with human annotations of their change points, streamed through a running service."""
