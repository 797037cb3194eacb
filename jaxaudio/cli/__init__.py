"""The jaxaudio command: one file per verb."""
