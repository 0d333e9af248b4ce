"""The report that people read: one HTML file that needs no network, made from what the warehouse and the model store keep.

`gathering` reads a run back, `page` puts it into words and numbers of one language, `writing` makes the file. The log is never read: what
only it knew stands in the table `jobs`.
"""

from persopredict.report.gathering import ReportData, gather
from persopredict.report.writing import rendered, write

__all__ = ["ReportData", "gather", "rendered", "write"]
