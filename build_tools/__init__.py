"""What setup.py builds with; not part of the package."""
