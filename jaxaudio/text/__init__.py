"""Tokenisers, text encoders and CLAP."""
