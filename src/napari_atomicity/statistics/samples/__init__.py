"""Samples compared: estimates, differences with intervals, trends, and how many images it takes."""
