"""The options of ``glimpse train``: names, read from source text without torch, help, parser, and loggers by name."""
