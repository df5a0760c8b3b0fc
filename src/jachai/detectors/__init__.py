"""Name → detector: the table of engines that `jachai scan --model NAME` knows."""
