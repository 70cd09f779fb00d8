//! cloister-redact
