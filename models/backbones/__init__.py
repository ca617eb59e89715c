"""Face networks without a method: layers that the methods start from or train."""
