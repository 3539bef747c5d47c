"""The kinds of locks, each in a module of its own."""
