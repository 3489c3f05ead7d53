"""A blueprint per chapter of the contract. Each module's `blueprint` takes the router that it asks."""
