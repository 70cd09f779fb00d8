//! One object on its way in: scanned, hashed and written encrypted while it streams.

use std::sync::Arc;

use cloister_phi::AeTitle;
use dicom_object::FileMetaTableBuilder;
use hmac::Mac as _;

use super::command::{Command, Status};
use super::dataset::{Scan, ScanError};
use super::negotiate::Context;
use crate::error::SpoolError;
use crate::keys::Mac;
use crate::spool::sealed::SealedWriter;
use crate::spool::{Id, Spool};

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

/// Takes data until the last fragment; after the first failure it only waits for that.
pub(crate) struct Receiving {
    state: Result<Box<Open>, Status>,
}

struct Open {
    writer: SealedWriter,
    scan: Scan,
    content: Mac,
    object: Id,
    calling: Arc<AeTitle>,
    sop_class: String,
    sop_instance: String,
    bytes: u64,
    max_bytes: u64,
}

impl Receiving {
    /// Starts, or finds at once why not.
    pub(crate) fn start(
        command: &Command,
        context: &Context,
        calling: &Arc<AeTitle>,
        max_bytes: u64,
        spool: &Spool,
    ) -> Self {
        Self {
            state: open(command, context, calling, max_bytes, spool).map(Box::new),
        }
    }

    /// One more fragment.
    pub(crate) fn push(&mut self, data: &[u8]) {
        if let Ok(open) = &mut self.state
            && let Err(status) = open.push(data)
        {
            self.state = Err(status);
        }
    }

    /// After the last fragment: the object, or the status to answer.
    pub(crate) fn finish(self) -> Result<Received, Status> {
        let open = self.state?;
        let heading = open.scan.finish().map_err(unparseable)?;
        if heading.sop_class.as_str() != open.sop_class
            || heading.sop_instance.expose().as_str() != open.sop_instance
        {
            return Err(Status::DataSetMismatch);
        }
        Ok(Received {
            writer: open.writer,
            heading,
            content: open.content.finalize().into_bytes().into(),
            object: open.object,
            calling: open.calling,
            bytes: open.bytes,
        })
    }
}

fn open(
    command: &Command,
    context: &Context,
    calling: &Arc<AeTitle>,
    max_bytes: u64,
    spool: &Spool,
) -> Result<Open, Status> {
    let sop_class = command.sop_class().ok_or(Status::SopClassNotSupported)?;
    let sop_instance = command.sop_instance().ok_or(Status::InvalidSopInstance)?;
    if sop_class.as_str() != context.abstract_syntax {
        return Err(Status::SopClassNotSupported);
    }
    let mut head = vec![0; 128];
    head.extend_from_slice(b"DICM");
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(context.transfer_syntax)
        .media_storage_sop_class_uid(sop_class.as_str())
        .media_storage_sop_instance_uid(sop_instance.as_str())
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
        scan: Scan::new(context.transfer_syntax, max_bytes),
        content: keys
            .content()
            .chain_update(context.transfer_syntax)
            .chain_update([0]),
        object,
        calling: Arc::clone(calling),
        sop_class: sop_class.as_str().to_owned(),
        sop_instance: sop_instance.as_str().to_owned(),
        bytes: 0,
        max_bytes,
    })
}

impl Open {
    fn push(&mut self, data: &[u8]) -> Result<(), Status> {
        self.bytes += data.len() as u64;
        if self.bytes > self.max_bytes {
            return Err(Status::OutOfResources);
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
    Status::OutOfResources
}
