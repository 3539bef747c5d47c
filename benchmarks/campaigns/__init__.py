"""What new data notice of a large campaign that runs beside them."""
