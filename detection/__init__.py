"""The blue team: detectors, the payoff matrix and the cycle. Of `generation` it imports only `generation.records`."""
