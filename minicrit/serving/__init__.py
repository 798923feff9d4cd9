"""The critic as a service: HTTP, its Python client, and a server of the Model Context Protocol."""
