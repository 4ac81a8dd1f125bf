"""Plots of a report: modules such as ``charts`` build them from scenes, ``matplotlib_svg`` draws them.

``plot`` describes a plot independently of how it is drawn; ``axes`` has what the builders share.
"""

from prunebench.report.plots.plot import Axis, HorizontalLine, Plot, Series

__all__ = ["Axis", "HorizontalLine", "Plot", "Series"]
