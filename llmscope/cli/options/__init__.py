"""What the commands take: arguments, options, and what may be wrong with them."""
