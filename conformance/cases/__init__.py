from . import association, dimse, storage
