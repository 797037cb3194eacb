"""Quantisers: from continuous vectors to tokens and back, as pure functions."""
