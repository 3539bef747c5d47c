"""One poll of all locks of many waiting groups."""
