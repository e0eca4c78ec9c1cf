# SPDX-License-Identifier: MIT
"""What `python -m cxxloop` does to a program before it starts, and one adapter for each server that needs more."""
