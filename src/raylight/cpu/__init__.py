"""Networks run fast on a processor without gradients, and the settings measured for it."""
