"""Tests: one module for each module of bzz, and flows over real HTTP."""
