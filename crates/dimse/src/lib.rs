//! The bytes of a DICOM association, read without a socket: [`pdu`] says how long a PDU is and what
//! stands in it, [`request`] reads what a peer asks for, [`command`] reads and answers command sets, [`references`]
//! the data sets of Storage Commitment.
//! Nothing here allocates more than the bytes that came, and no bytes make it panic: the targets in
//! `fuzz/` hold it to that.

pub mod command;
pub mod pdu;
pub mod references;
pub mod request;

#[doc(hidden)]
pub mod fuzzing;
#[doc(hidden)]
pub mod testing;
