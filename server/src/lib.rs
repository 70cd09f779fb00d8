//! cloister-server
