//! A sender made by hand: every byte on the wire is the test's.

use std::net::SocketAddr;

use dicom_core::{DataElement, PrimitiveValue, VR, dicom_value};
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::TransferSyntaxIndex as _;
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use dicom_ul::pdu::{
    AssociationRQ, Pdu, PresentationContextProposed, UserVariableItem, read_pdu, write_pdu,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Patient of every film here; must never be found in clear on the disk.
pub(super) const CANARY_NAME: &str = "Zyxwvut^Quentin";
pub(super) const CANARY_ID: &str = "PID-7716023";

/// A film: explicit VR little endian unless said otherwise.
#[derive(Debug, Clone)]
pub(super) struct Film {
    pub(super) study: String,
    pub(super) instance: String,
    pub(super) modality: &'static str,
    pub(super) seed: u8,
    pub(super) side: u16,
}

impl Film {
    pub(super) fn new(study: u32, instance: u32) -> Self {
        Self {
            study: format!("1.2.826.0.1.99.{study}"),
            instance: format!("1.2.826.0.1.99.{study}.{instance}"),
            modality: "CR",
            seed: instance as u8,
            side: 16,
        }
    }

    pub(super) fn data_set(&self) -> Vec<u8> {
        let mut object = InMemDicomObject::new_empty();
        let mut text = |tag, vr, value: &str| {
            object.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
        };
        text(
            tags::SOP_CLASS_UID,
            VR::UI,
            uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
        );
        text(tags::SOP_INSTANCE_UID, VR::UI, &self.instance);
        text(tags::STUDY_DATE, VR::DA, "20260102");
        text(tags::STUDY_TIME, VR::TM, "101112");
        text(tags::ACCESSION_NUMBER, VR::SH, "ACC-55190");
        text(tags::MODALITY, VR::CS, self.modality);
        text(tags::REFERRING_PHYSICIAN_NAME, VR::PN, "Refferer^Rita");
        text(tags::PATIENT_NAME, VR::PN, CANARY_NAME);
        text(tags::PATIENT_ID, VR::LO, CANARY_ID);
        text(tags::PATIENT_BIRTH_DATE, VR::DA, "19610203");
        text(tags::PATIENT_SEX, VR::CS, "F");
        text(tags::PATIENT_AGE, VR::AS, "064Y");
        text(tags::BODY_PART_EXAMINED, VR::CS, "CHEST");
        text(tags::VIEW_POSITION, VR::CS, "PA");
        text(tags::STUDY_INSTANCE_UID, VR::UI, &self.study);
        text(
            tags::SERIES_INSTANCE_UID,
            VR::UI,
            &format!("{}.9", self.study),
        );
        text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
        for (tag, value) in [
            (tags::SAMPLES_PER_PIXEL, 1),
            (tags::ROWS, self.side),
            (tags::COLUMNS, self.side),
            (tags::BITS_ALLOCATED, 8),
            (tags::BITS_STORED, 8),
            (tags::HIGH_BIT, 7),
            (tags::PIXEL_REPRESENTATION, 0),
        ] {
            object.put(DataElement::new(tag, VR::US, dicom_value!(U16, [value])));
        }
        let pixels = vec![self.seed; usize::from(self.side) * usize::from(self.side)];
        object.put(DataElement::new(
            tags::PIXEL_DATA,
            VR::OB,
            PrimitiveValue::U8(pixels.into()),
        ));
        let syntax = TransferSyntaxRegistry
            .get(uids::EXPLICIT_VR_LITTLE_ENDIAN)
            .unwrap();
        let mut bytes = Vec::new();
        object.write_dataset_with_ts(&mut bytes, syntax).unwrap();
        bytes
    }

    /// The film as a DICOM file.
    pub(super) fn file(&self) -> Vec<u8> {
        self.file_in(uids::EXPLICIT_VR_LITTLE_ENDIAN)
    }

    /// As [`Film::file`], with a file meta that names another transfer syntax.
    pub(super) fn file_in(&self, syntax: &str) -> Vec<u8> {
        let mut bytes = [vec![0; 128], b"DICM".to_vec()].concat();
        let meta = FileMetaTableBuilder::new()
            .transfer_syntax(syntax)
            .media_storage_sop_class_uid(uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE)
            .media_storage_sop_instance_uid(&self.instance)
            .build()
            .unwrap();
        meta.write(&mut bytes).unwrap();
        bytes.extend_from_slice(&self.data_set());
        bytes
    }
}

/// How a message is cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    pub(super) command: usize,
    pub(super) data: usize,
}

pub(super) const WHOLE: Cut = Cut {
    command: usize::MAX,
    data: 16_000,
};

/// One connection, over TCP unless said otherwise.
pub(super) struct Scu<S = TcpStream> {
    pub(super) stream: S,
    message: u16,
}

pub(super) fn request(called: &str, calling: &str) -> AssociationRQ {
    let context = |id, abstract_syntax: &str, syntaxes: &[&str]| PresentationContextProposed {
        id,
        abstract_syntax: abstract_syntax.to_owned(),
        transfer_syntaxes: syntaxes.iter().map(|uid| (*uid).to_owned()).collect(),
    };
    AssociationRQ {
        protocol_version: 1,
        calling_ae_title: calling.to_owned(),
        called_ae_title: called.to_owned(),
        application_context_name: "1.2.840.10008.3.1.1.1".to_owned(),
        presentation_contexts: vec![
            context(1, uids::VERIFICATION, &[uids::IMPLICIT_VR_LITTLE_ENDIAN]),
            context(
                3,
                uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
                &["1.2.3.4", uids::EXPLICIT_VR_LITTLE_ENDIAN],
            ),
            context(5, "1.2.3.4.5", &[uids::IMPLICIT_VR_LITTLE_ENDIAN]),
            context(7, uids::CT_IMAGE_STORAGE, &["1.2.3.4"]),
        ],
        user_variables: vec![UserVariableItem::MaxLength(16384)],
    }
}

/// An element of a command set.
pub(super) fn element(element: u16, value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    if value.len() % 2 == 1 {
        value.push(0);
    }
    [
        &[0, 0][..],
        &element.to_le_bytes(),
        &(value.len() as u32).to_le_bytes(),
        &value,
    ]
    .concat()
}

pub(super) fn store_command(message: u16, instance: &str) -> Vec<u8> {
    let body = [
        element(0x0002, uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE.as_bytes()),
        element(0x0100, &1u16.to_le_bytes()),
        element(0x0110, &message.to_le_bytes()),
        element(0x0700, &0u16.to_le_bytes()),
        element(0x0800, &0u16.to_le_bytes()),
        element(0x1000, instance.as_bytes()),
    ]
    .concat();
    [element(0x0000, &(body.len() as u32).to_le_bytes()), body].concat()
}

impl Scu<TcpStream> {
    pub(super) async fn connect(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).await.unwrap())
    }

    /// One film on an association of its own; `None` when anything breaks.
    pub(super) async fn try_store(addr: SocketAddr, film: &Film) -> Option<u16> {
        let mut scu = Self {
            stream: TcpStream::connect(addr).await.ok()?,
            message: 0,
        };
        let answer = scu
            .ask(&Pdu::AssociationRQ(request("CLOISTER", "TESTER")))
            .await?;
        if !matches!(answer, Pdu::AssociationAC(_)) {
            return None;
        }
        scu.store(film).await
    }

    pub(super) async fn associate(addr: SocketAddr) -> Self {
        let mut scu = Self::connect(addr).await;
        let answer = scu
            .ask(&Pdu::AssociationRQ(request("CLOISTER", "TESTER")))
            .await
            .unwrap();
        assert!(matches!(answer, Pdu::AssociationAC(_)), "{answer:?}");
        scu
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Scu<S> {
    pub(super) fn over(stream: S) -> Self {
        Self { stream, message: 0 }
    }

    pub(super) async fn ask(&mut self, pdu: &Pdu) -> Option<Pdu> {
        let mut bytes = Vec::new();
        write_pdu(&mut bytes, pdu).unwrap();
        self.send(&bytes).await;
        self.read().await
    }

    /// Sends bytes. A peer that is gone shows at the next read.
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.ok();
        self.stream.flush().await.ok();
    }

    /// The next PDU, `None` at the end.
    pub(super) async fn read(&mut self) -> Option<Pdu> {
        let mut head = [0; 6];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes(head[2..6].try_into().unwrap()) as usize;
        let mut pdu = head.to_vec();
        pdu.resize(6 + length, 0);
        self.stream.read_exact(&mut pdu[6..]).await.ok()?;
        read_pdu(&pdu[..], 1 << 20, false).unwrap()
    }

    /// Sends bytes as values of at most `size`, each in a PDU of its own.
    pub(super) async fn values(&mut self, context: u8, command: bool, bytes: &[u8], size: usize) {
        let mut out = Vec::new();
        let size = size.min(16_000);
        let mut left = bytes.len();
        for part in bytes.chunks(size) {
            left -= part.len();
            let control = u8::from(command) | if left == 0 { 2 } else { 0 };
            out.extend_from_slice(&[4, 0]);
            out.extend_from_slice(&(part.len() as u32 + 6).to_be_bytes());
            out.extend_from_slice(&(part.len() as u32 + 2).to_be_bytes());
            out.extend_from_slice(&[context, control]);
            out.extend_from_slice(part);
        }
        self.send(&out).await;
    }

    /// C-STORE with the instance of the film in the command; the status, `None` without an answer.
    pub(super) async fn store(&mut self, film: &Film) -> Option<u16> {
        self.store_as(&film.instance, &film.data_set(), WHOLE).await
    }

    pub(super) async fn store_as(
        &mut self,
        instance: &str,
        data_set: &[u8],
        cut: Cut,
    ) -> Option<u16> {
        self.message += 1;
        let command = store_command(self.message, instance);
        self.values(3, true, &command, cut.command).await;
        self.values(3, false, data_set, cut.data).await;
        self.status().await
    }

    /// Number of a message that the test writes itself.
    pub(super) fn next_message(&mut self) -> u16 {
        self.message += 1;
        self.message
    }

    pub(super) async fn echo(&mut self) -> Option<u16> {
        self.send_echo().await;
        self.status().await
    }

    pub(super) async fn send_echo(&mut self) {
        self.message += 1;
        let body = [
            element(0x0002, uids::VERIFICATION.as_bytes()),
            element(0x0100, &0x30u16.to_le_bytes()),
            element(0x0110, &self.message.to_le_bytes()),
            element(0x0800, &0x0101u16.to_le_bytes()),
        ]
        .concat();
        let command = [element(0x0000, &(body.len() as u32).to_le_bytes()), body].concat();
        self.values(1, true, &command, usize::MAX).await;
    }

    /// Status of the response to the last message.
    pub(super) async fn status(&mut self) -> Option<u16> {
        let Some(Pdu::PData { data }) = self.read().await else {
            return None;
        };
        let command = &data[0].data;
        let mut at = 0;
        let (mut status, mut answers) = (None, None);
        while at < command.len() {
            let element = u16::from_le_bytes(command[at + 2..at + 4].try_into().unwrap());
            let length = u32::from_le_bytes(command[at + 4..at + 8].try_into().unwrap()) as usize;
            let value = &command[at + 8..at + 8 + length];
            match element {
                0x0900 => status = Some(u16::from_le_bytes(value.try_into().unwrap())),
                0x0120 => answers = Some(u16::from_le_bytes(value.try_into().unwrap())),
                _ => {}
            }
            at += 8 + length;
        }
        assert_eq!(answers, Some(self.message));
        status
    }

    pub(super) async fn release(mut self) {
        assert_eq!(self.ask(&Pdu::ReleaseRQ).await, Some(Pdu::ReleaseRP));
    }
}
