"""Networks: how they are built, cut into stages, frozen, fed and run fast without gradients."""
