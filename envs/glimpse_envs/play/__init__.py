"""People as agents: a game in a terminal or a browser, under a model's budget."""
