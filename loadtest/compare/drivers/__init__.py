"""What runs in the environments of peers. Imports only Python's own modules and what is installed there."""
