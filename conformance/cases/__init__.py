from . import association, dimse
