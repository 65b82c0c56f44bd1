"""Configuration of the commands in `scripts`, read by Hydra as `pkg://conf`."""
