//! The parts of one request, one after the other, each an object of its own: what is wrong with one
//! is said of that one, and the others go on.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use cloister_audit::Action;
use cloister_phi::{AeTitle, Phi, Uid};

use super::answer::{Answer, Instance};
use super::multipart::{Event, Multipart, MultipartError};
use super::part10::{FileMeta, Head};
use crate::metric;
use crate::receive::Reception;
use crate::receive::association::{answered, reason};
use crate::receive::negotiate::{storable_class, storable_syntax};
use crate::receive::object::{Announced, Received, Receiving};
use crate::store;
use cloister_dimse::command::Status;

/// The request is refused as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum UploadError {
    #[error("no multipart body, or a cut one")]
    Malformed,
    #[error("more parts than objects are allowed")]
    TooMany,
}

impl From<MultipartError> for UploadError {
    fn from(_: MultipartError) -> Self {
        Self::Malformed
    }
}

/// A request on its way in.
pub(super) struct Upload<'a> {
    reception: &'a Arc<Reception>,
    calling: &'a Arc<AeTitle>,
    peer: IpAddr,
    study: Option<Phi<Uid>>,
    multipart: Multipart,
    part: Part,
    answer: Answer,
}

enum Part {
    /// Between parts.
    None,
    Head(Head),
    Object(Instance, Box<Receiving>),
    /// Nothing more of it counts.
    Refused(Instance, Status),
}

impl<'a> Upload<'a> {
    pub(super) fn new(
        reception: &'a Arc<Reception>,
        calling: &'a Arc<AeTitle>,
        peer: IpAddr,
        study: Option<Phi<Uid>>,
        boundary: &str,
    ) -> Self {
        Self {
            reception,
            calling,
            peer,
            study,
            multipart: Multipart::new(boundary),
            part: Part::None,
            answer: Answer::default(),
        }
    }

    /// Takes more of the body.
    pub(super) async fn push(&mut self, chunk: Bytes) -> Result<(), UploadError> {
        self.multipart.push(&chunk);
        drop(chunk);
        while let Some(event) = self.multipart.next()? {
            match event {
                Event::Part(header) => self.begin(&header)?,
                Event::Data(data) => self.data(&data).await,
                Event::EndOfPart => self.end().await,
            }
        }
        Ok(())
    }

    fn begin(&mut self, header: &Bytes) -> Result<(), UploadError> {
        if self.answer.parts() >= self.reception.config.max_objects as usize {
            return Err(UploadError::TooMany);
        }
        self.part = if is_dicom(header) {
            Part::Head(Head::default())
        } else {
            Part::Refused(Instance::default(), Status::CannotUnderstand)
        };
        Ok(())
    }

    async fn data(&mut self, data: &Bytes) {
        match &mut self.part {
            Part::None | Part::Refused(..) => {}
            Part::Object(_, receiving) => receiving.push(data).await,
            Part::Head(head) => match head.push(data) {
                Ok(None) => {}
                Ok(Some((meta, first))) => {
                    let (instance, mut receiving) = self.open(meta);
                    receiving.push(&first).await;
                    self.part = Part::Object(instance, Box::new(receiving));
                }
                Err(_) => {
                    self.part = Part::Refused(Instance::default(), Status::CannotUnderstand);
                }
            },
        }
    }

    fn open(&self, meta: FileMeta) -> (Instance, Receiving) {
        let config = &self.reception.config;
        let instance = Instance {
            sop_class: meta.sop_class.clone(),
            sop_instance: meta.sop_instance.clone(),
        };
        let announced = || {
            let sop_class = meta
                .sop_class
                .filter(|class| storable_class(class.as_str(), config.unknown_sop_classes))
                .ok_or(Status::SopClassNotSupported)?;
            let transfer_syntax = meta
                .transfer_syntax
                .and_then(|uid| storable_syntax(uid.as_str()))
                .ok_or(Status::TransferSyntaxNotSupported)?;
            Ok(Announced {
                sop_class,
                sop_instance: meta.sop_instance.ok_or(Status::InvalidSopInstance)?,
                transfer_syntax,
            })
        };
        let spool = &self.reception.store.spool;
        let max_bytes = config.max_object_bytes;
        let receiving = Receiving::start(announced(), self.calling, max_bytes, spool);
        (instance, receiving)
    }

    async fn end(&mut self) {
        let started = Instant::now();
        let (instance, status) = match std::mem::replace(&mut self.part, Part::None) {
            Part::None => return,
            // Shorter than the head of a file.
            Part::Head(_) => (Instance::default(), Err(Status::CannotUnderstand)),
            Part::Refused(instance, status) => (instance, Err(status)),
            Part::Object(instance, receiving) => {
                let received = receiving.finish().await;
                (
                    instance,
                    received.and_then(|received| self.of_study(received)),
                )
            }
        };
        let (answered, status) = match status {
            Ok(received) => {
                // A client that leaves must not stop a store between its steps.
                let reception = Arc::clone(self.reception);
                let storing = async move { store::store(&reception.store, received).await };
                let stored = tokio::spawn(storing).await;
                stored.unwrap_or((answered(Status::OutOfResources), Status::OutOfResources))
            }
            Err(status) => (answered(status), status),
        };
        metric::object(answered, started.elapsed());
        if status != Status::Success {
            let calling = Some(&**self.calling);
            self.reception
                .note(self.peer, calling, Action::ObjectRefused, reason(status));
        }
        self.answer.add(instance, status);
    }

    /// PS3.18 section 10.5.1.1: an instance of another study than the path's is not stored.
    fn of_study(&self, received: Received) -> Result<Received, Status> {
        match &self.study {
            Some(study) if study != received.study() => Err(Status::DataSetMismatch),
            _ => Ok(received),
        }
    }

    /// After the body.
    pub(super) fn finish(self) -> Result<Answer, UploadError> {
        if self.multipart.is_whole() && self.answer.parts() > 0 {
            Ok(self.answer)
        } else {
            Err(UploadError::Malformed)
        }
    }
}

/// A part without a content type is taken for what the whole body is said to hold.
fn is_dicom(header: &Bytes) -> bool {
    let Ok(header) = std::str::from_utf8(header) else {
        return false;
    };
    let mut kinds = header.split("\r\n").filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim()
            .eq_ignore_ascii_case("content-type")
            .then_some(value)
    });
    kinds.all(|kind| {
        let essence = kind.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/dicom")
    })
}
