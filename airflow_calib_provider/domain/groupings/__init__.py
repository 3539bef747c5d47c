"""The kinds of groupings, each in a module of its own."""
