"""The held-out protocol: scorecards, leagues, studies."""
