"""Which images are trained on, which choose, and which judge: cutting the sets, and images that stand in two of them."""
