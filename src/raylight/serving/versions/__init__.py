"""Faster versions of a run's network, each certified on its validation images before it is used."""
