"""``glimpse play``: a person classifies images in a terminal or a browser, with the glimpse budget of a model."""
