"""A measure over many commits: its series, the steps in it, and how they are shown.

``steps`` finds steps in numbers with known noise, ``series`` reads them from results folders, ``shown`` makes tables,
JSON and a plot of them.
"""
