"""What is checked of specs beyond what they say: against this machine, and for what never can be."""
