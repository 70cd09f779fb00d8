//! cloister-tests
