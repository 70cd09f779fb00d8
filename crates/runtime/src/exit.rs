//! Exit codes (sysexits.h where it has one).

/// Bad usage or configuration (`EX_USAGE`): starting again will not help.
pub const USAGE: u8 = 64;
/// The process failed while it ran.
pub const FAILED: u8 = 1;
