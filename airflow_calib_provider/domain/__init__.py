"""What is true of runs, groups and jobs by itself: nothing here reads a database, a clock or a file."""
