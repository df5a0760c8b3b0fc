"""Volume → evidence maps: tissue, residuals, and how far each place deviates from what the scan itself predicts."""
