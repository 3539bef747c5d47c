"""Job sets, from the first look at a task to what its jobs leave."""
