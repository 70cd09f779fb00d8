//! One object on its way in: scanned, hashed and written encrypted while it streams.

use std::sync::Arc;

use cloister_phi::{AeTitle, Phi, Uid};
use dicom_dictionary_std::uids;
use dicom_object::FileMetaTableBuilder;
use hmac::Mac as _;
use tokio::task::JoinHandle;

use super::dataset::{Scan, ScanError};
use super::negotiate::Context;
use crate::error::SpoolError;
use crate::keys::Mac;
use crate::spool::sealed::SealedWriter;
use crate::spool::{Id, Spool};
use cloister_dimse::command::{Command, Status};

/// Data that goes to another thread at a time: enough that the way there does not count.
const BATCH_BYTES: usize = 256 << 10;
/// A last batch up to this is worked on where it is.
const INLINE_BYTES: usize = 64 << 10;

/// A whole data set that fits its command. Its file is not durable yet: `store` does that.
#[derive(Debug)]
pub(crate) struct Received {
    writer: SealedWriter,
    heading: super::dataset::Heading,
    content: [u8; 32],
    object: Id,
    calling: Arc<AeTitle>,
    bytes: u64,
}

impl Received {
    /// The study that the data set names.
    pub(crate) fn study(&self) -> &Phi<Uid> {
        &self.heading.study
    }

    pub(crate) fn into_parts(self) -> ReceivedParts {
        let Self {
            writer,
            heading,
            content,
            object,
            calling,
            bytes,
        } = self;
        ReceivedParts {
            writer,
            heading,
            content,
            object,
            calling,
            bytes,
        }
    }
}

/// What `store` needs of a [`Received`].
#[derive(Debug)]
pub(crate) struct ReceivedParts {
    pub(crate) writer: SealedWriter,
    pub(crate) heading: super::dataset::Heading,
    pub(crate) content: [u8; 32],
    pub(crate) object: Id,
    pub(crate) calling: Arc<AeTitle>,
    pub(crate) bytes: u64,
}

/// What an object is said to be before its data comes: by the command, or by the file meta
/// information.
#[derive(Debug)]
pub(crate) struct Announced {
    pub(crate) sop_class: Uid,
    pub(crate) sop_instance: Phi<Uid>,
    pub(crate) transfer_syntax: &'static str,
}

impl Announced {
    /// By a C-STORE-RQ on `context`.
    pub(crate) fn by(command: &Command, context: &Context) -> Result<Self, Status> {
        let sop_class = command.sop_class().ok_or(Status::SopClassNotSupported)?;
        let sop_instance = command.sop_instance().ok_or(Status::InvalidSopInstance)?;
        if sop_class.as_str() != context.abstract_syntax {
            return Err(Status::SopClassNotSupported);
        }
        Ok(Self {
            sop_class,
            sop_instance: Phi::new(sop_instance),
            transfer_syntax: context.transfer_syntax,
        })
    }
}

/// Takes data until the last fragment; after the first failure it only waits for that. Scanning,
/// hashing, encrypting and writing happen on a blocking thread, a batch at a time, while the next
/// batch comes: two batches are all the memory that an object takes.
pub(crate) struct Receiving {
    state: State,
    batch: Vec<u8>,
    /// A few bytes may become many: never worked on where they are.
    deflated: bool,
}

/// The open object, or why it is given up, and the emptied buffer.
type Worked = (Result<Box<Open>, Status>, Vec<u8>);

enum State {
    Open(Box<Open>),
    Working(JoinHandle<Worked>),
    Refused(Status),
}

impl Receiving {
    /// Starts, or finds at once why not.
    pub(crate) fn start(
        announced: Result<Announced, Status>,
        calling: &Arc<AeTitle>,
        max_bytes: u64,
        spool: &Spool,
    ) -> Self {
        let deflated = announced.as_ref().is_ok_and(|announced| {
            announced.transfer_syntax == uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
        });
        let state = match announced {
            // The object's key is wrapped by a token, which may take its time.
            Ok(announced) if spool.keys().are_slow() => {
                let (calling, spool) = (Arc::clone(calling), spool.clone());
                State::Working(tokio::task::spawn_blocking(move || {
                    let opened = open(announced, &calling, max_bytes, &spool);
                    (opened.map(Box::new), Vec::new())
                }))
            }
            Ok(announced) => match open(announced, calling, max_bytes, spool) {
                Ok(open) => State::Open(Box::new(open)),
                Err(status) => State::Refused(status),
            },
            Err(status) => State::Refused(status),
        };
        Self {
            state,
            batch: Vec::new(),
            deflated,
        }
    }

    /// One more fragment.
    pub(crate) async fn push(&mut self, data: &[u8]) {
        if matches!(self.state, State::Refused(_)) {
            return;
        }
        self.batch.extend_from_slice(data);
        if self.batch.len() >= BATCH_BYTES {
            self.state = self.hand_over().await;
        }
    }

    /// Waits for the batch before, and gives this one away.
    async fn hand_over(&mut self) -> State {
        let (mut open, empty) = match self.rest().await {
            Ok(rest) => rest,
            Err(status) => {
                self.batch = Vec::new();
                return State::Refused(status);
            }
        };
        let mut full = std::mem::replace(&mut self.batch, empty);
        State::Working(tokio::task::spawn_blocking(move || {
            let pushed = open.push(&full);
            full.clear();
            (pushed.map(|()| open), full)
        }))
    }

    /// The open object and the buffer of the batch before.
    async fn rest(&mut self) -> Result<(Box<Open>, Vec<u8>), Status> {
        match std::mem::replace(&mut self.state, State::Refused(Status::OutOfResources)) {
            State::Open(open) => Ok((open, Vec::new())),
            State::Working(working) => {
                let (open, buffer) = working.await.map_err(|_| Status::OutOfResources)?;
                open.map(|open| (open, buffer))
            }
            State::Refused(status) => Err(status),
        }
    }

    /// After the last fragment: the object, or the status to answer.
    pub(crate) async fn finish(mut self) -> Result<Received, Status> {
        let (open, _) = self.rest().await?;
        let last = self.batch;
        if last.len() > INLINE_BYTES || self.deflated {
            let task = tokio::task::spawn_blocking(move || open.finish(&last));
            return task.await.map_err(|_| Status::OutOfResources)?;
        }
        open.finish(&last)
    }
}

struct Open {
    writer: SealedWriter,
    scan: Scan,
    content: Mac,
    object: Id,
    calling: Arc<AeTitle>,
    sop_class: String,
    sop_instance: Phi<Uid>,
    bytes: u64,
    max_bytes: u64,
}

fn open(
    announced: Announced,
    calling: &Arc<AeTitle>,
    max_bytes: u64,
    spool: &Spool,
) -> Result<Open, Status> {
    let Announced {
        sop_class,
        sop_instance,
        transfer_syntax,
    } = announced;
    let mut head = vec![0; 128];
    head.extend_from_slice(b"DICM");
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(transfer_syntax)
        .media_storage_sop_class_uid(sop_class.as_str())
        .media_storage_sop_instance_uid(sop_instance.expose().as_str())
        .build()
        .map_err(|_| Status::CannotUnderstand)?;
    meta.write(&mut head)
        .map_err(|_| Status::CannotUnderstand)?;

    let object = Id::random().map_err(|_| Status::OutOfResources)?;
    let keys = spool.keys();
    let mut writer = spool.receive(object).map_err(|error| storage(&error))?;
    writer.write(&head).map_err(|error| storage(&error))?;
    Ok(Open {
        writer,
        scan: Scan::new(transfer_syntax, max_bytes),
        content: keys
            .content()
            .chain_update(transfer_syntax)
            .chain_update([0]),
        object,
        calling: Arc::clone(calling),
        sop_class: sop_class.as_str().to_owned(),
        sop_instance,
        bytes: 0,
        max_bytes,
    })
}

impl Open {
    /// The last bytes, and then the object.
    fn finish(mut self: Box<Self>, last: &[u8]) -> Result<Received, Status> {
        self.push(last)?;
        let heading = self.scan.finish().map_err(unparseable)?;
        if heading.sop_class.as_str() != self.sop_class
            || heading.sop_instance.expose().as_str() != self.sop_instance.expose().as_str()
        {
            return Err(Status::DataSetMismatch);
        }
        Ok(Received {
            writer: self.writer,
            heading,
            content: self.content.finalize().into_bytes().into(),
            object: self.object,
            calling: self.calling,
            bytes: self.bytes,
        })
    }

    fn push(&mut self, data: &[u8]) -> Result<(), Status> {
        self.bytes += data.len() as u64;
        if self.bytes > self.max_bytes {
            return Err(Status::TooLarge);
        }
        self.scan.push(data).map_err(unparseable)?;
        self.content.update(data);
        self.writer.write(data).map_err(|error| storage(&error))
    }
}

fn unparseable(error: ScanError) -> Status {
    tracing::info!(%error, "Refused an object that cannot be parsed.");
    Status::CannotUnderstand
}

fn storage(error: &SpoolError) -> Status {
    tracing::error!(%error, "An object cannot be spooled.");
    match error {
        SpoolError::Full => Status::Full,
        _ => Status::OutOfResources,
    }
}
