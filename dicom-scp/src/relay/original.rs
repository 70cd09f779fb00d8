//! An original, read piece by piece on a thread of its own: what its file meta says, then its data set
//! as it was received.

use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::error::SpoolError;
use crate::spool::sealed::SealedReader;
use crate::spool::{Id, Spool};

/// Pieces of 64 KiB that wait for the network.
const AHEAD: usize = 2;
const PREAMBLE_BYTES: usize = 132;

/// SOP class, instance and transfer syntax (PS3.10 table 7.1-1). The instance is an identifier.
pub(super) struct Head {
    pub(super) class: String,
    pub(super) instance: Zeroizing<String>,
    pub(super) syntax: String,
    /// Where the data set begins.
    start: usize,
}

/// An open object.
pub(super) struct Original {
    pub(super) head: Head,
    first: Zeroizing<Vec<u8>>,
    reader: SealedReader,
}

impl Original {
    pub(super) fn open(spool: &Spool, id: Id) -> Result<Self, SpoolError> {
        let mut reader = spool.open_original(id)?;
        // We wrote the head ourselves: it is in the first piece.
        let first = reader.next_chunk()?.ok_or(SpoolError::Sealed)?;
        let head = head(&first).ok_or(SpoolError::Sealed)?;
        Ok(Self {
            head,
            first,
            reader,
        })
    }

    /// The data set's pieces in order. A fault is the last of them.
    pub(super) fn pieces(self) -> mpsc::Receiver<Result<Zeroizing<Vec<u8>>, SpoolError>> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let Self {
            head,
            first,
            mut reader,
            ..
        } = self;
        tokio::task::spawn_blocking(move || {
            let rest = first.get(head.start..).unwrap_or_default().to_vec();
            let mut piece = Ok(Some(Zeroizing::new(rest)));
            loop {
                let sent = match piece {
                    Ok(Some(bytes)) => sender.blocking_send(Ok(bytes)),
                    Ok(None) => return,
                    Err(error) => {
                        drop(sender.blocking_send(Err(error)));
                        return;
                    }
                };
                if sent.is_err() {
                    return;
                }
                piece = reader.next_chunk();
            }
        });
        receiver
    }
}

fn head(first: &[u8]) -> Option<Head> {
    let mut at = PREAMBLE_BYTES;
    let (mut class, mut instance, mut syntax) = (None, None, None);
    while let Some([2, 0, e0, e1, v0, v1, l0, l1]) =
        first.get(at..).and_then(<[u8]>::first_chunk::<8>).copied()
    {
        let (length, header) = if [v0, v1] == *b"OB" {
            let long = first.get(at + 8..)?.first_chunk::<4>()?;
            (u32::from_le_bytes(*long) as usize, 12)
        } else {
            (usize::from(u16::from_le_bytes([l0, l1])), 8)
        };
        let value = first.get(at + header..)?.get(..length)?;
        let text = || {
            let text = std::str::from_utf8(value).ok()?;
            Some(text.trim_end_matches(['\0', ' ']).to_owned())
        };
        match u16::from_le_bytes([e0, e1]) {
            0x0002 => class = text(),
            0x0003 => instance = text().map(Zeroizing::new),
            0x0010 => syntax = text(),
            _ => {}
        }
        at += header + length;
    }
    Some(Head {
        class: class?,
        instance: instance?,
        syntax: syntax?,
        start: at,
    })
}
