"""One step of the schema each, in a line."""
