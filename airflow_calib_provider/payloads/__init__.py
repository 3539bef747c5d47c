"""Published constants, with the interval of runs for which they hold."""
