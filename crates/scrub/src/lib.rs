//! cloister-scrub
