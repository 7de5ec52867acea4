"""labtool: provision, deploy, drive and profile distributed systems."""

__version__ = "0.1.0"
