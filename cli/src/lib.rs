//! cloister
