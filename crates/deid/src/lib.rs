//! cloister-deid
