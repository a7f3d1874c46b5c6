"""Networks: building them, splitting them into stages, freezing, preprocessing and explaining."""
