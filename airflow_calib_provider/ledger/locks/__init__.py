"""What tasks wait for: each kind of lock in a module of its own."""
