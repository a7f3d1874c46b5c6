"""Reading each file of a data set once."""
