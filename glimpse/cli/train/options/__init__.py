"""The options of ``glimpse train``: their names, read from source text without torch, the help, and the parser."""
