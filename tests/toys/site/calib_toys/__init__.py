"""Members of all kinds, as another package brings them: nothing but its entry points names it."""
