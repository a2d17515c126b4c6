"""Alignment as mathematics: rewards, rankings, preference losses, advantages, policy objectives."""
