"""Reporting checklists (CLAIM, TRIPOD+AI, STARD-AI), filled in as far as a run's folder can answer."""
