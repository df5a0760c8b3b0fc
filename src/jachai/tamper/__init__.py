"""Volume → altered Volume + the exact record of what was done (for training and testing detectors)."""
