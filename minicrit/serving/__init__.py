"""The service: HTTP, operator console, precedents."""
