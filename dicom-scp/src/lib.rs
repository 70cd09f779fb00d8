//! cloister-dicom-scp
