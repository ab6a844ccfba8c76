"""Averages of class maps, and what they show."""
