"""What runs the notebooks and writes their figures and numbers; csbp_core does without it."""
