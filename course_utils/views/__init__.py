"""What the lessons show: plots, loop and port side by side, progress, costs, sliders, a canvas."""

from course_utils.views import plots
from course_utils.views.canvas import digit_canvas
from course_utils.views.cost import cost, in_turn
from course_utils.views.plots import digit_grid
from course_utils.views.progress import CourseProgress
from course_utils.views.side_by_side import side_by_side
from course_utils.views.sliders import code_sliders

__all__ = [
    "CourseProgress",
    "code_sliders",
    "cost",
    "digit_canvas",
    "digit_grid",
    "in_turn",
    "plots",
    "side_by_side",
]
