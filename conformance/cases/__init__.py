from . import association, dimse, storage, encoding, phi
