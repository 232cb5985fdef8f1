"""Published weights: the maps of their names, one module for each publisher, and the catalogue of known files."""
