"""Gates, rollouts and convergence. Empty until those are built; the place is kept by the design."""
