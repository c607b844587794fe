"""vmorch: a Compose file whose services are virtual machines."""

__version__ = "0.1.0"
