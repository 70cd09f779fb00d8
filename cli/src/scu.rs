//! A storage SCU: how `demo`, `submit` of studies and the tests play the modality.
//!
//! The data set goes out byte for byte as it stands in the file: what a modality sends is what
//! the gateway must cope with, so nothing is decoded or mended here.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Cursor;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use dicom_core::{DataElement, PrimitiveValue, VR, dicom_value};
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::TransferSyntaxIndex as _;
use dicom_object::{FileMetaTable, InMemDicomObject};
use dicom_transfer_syntax_registry::{TransferSyntaxRegistry, entries};
use dicom_ul::association::client::{AsyncClientAssociation, ClientAssociationOptions};
use dicom_ul::pdu::{PDataValue, PDataValueType, Pdu};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// An association with no answer for this long is given up.
const PATIENCE: Duration = Duration::from_mins(1);
/// Presentation context ids are odd numbers up to 255 (PS3.8 section 9.3.2.2).
const MAX_CONTEXTS: usize = 128;
/// Preamble and magic word of a DICOM file (PS3.10 section 7.1).
const MAGIC_END: usize = 132;

/// Why a film was not sent. Holds nothing from the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScuError {
    /// The file cannot be read.
    #[error("the file cannot be read")]
    File(#[source] std::io::Error),
    /// Not a DICOM file: no magic word or no readable file meta information.
    #[error("not a DICOM file")]
    NotDicom,
    /// No connection, or the peer refused the association.
    #[error("the association failed: {0}")]
    Association(Box<dicom_ul::association::Error>),
    /// The peer accepted no context for this SOP class and transfer syntax.
    #[error("the gateway does not accept this kind of film")]
    NotAccepted,
    /// The answer was not the expected DIMSE message.
    #[error("the gateway gave an answer out of protocol")]
    OutOfProtocol,
    /// No answer in time.
    #[error("the gateway did not answer in time")]
    TimedOut,
    /// The connection broke while sending.
    #[error("the connection broke")]
    Broken(#[source] std::io::Error),
    /// More kinds of film than one association can propose.
    #[error("more than 128 kinds of film in one association")]
    TooManyKinds,
}

impl From<dicom_ul::association::Error> for ScuError {
    fn from(error: dicom_ul::association::Error) -> Self {
        Self::Association(Box::new(error))
    }
}

/// A film as it stands in a file: what C-STORE has to name, and the encoded data set.
#[derive(Clone)]
pub struct Film {
    sop_class: String,
    sop_instance: String,
    transfer_syntax: String,
    data_set: Vec<u8>,
}

impl fmt::Debug for Film {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Film")
            .field("bytes", &self.data_set.len())
            .finish_non_exhaustive()
    }
}

impl Film {
    /// Reads a DICOM file.
    ///
    /// # Errors
    /// [`ScuError::File`], [`ScuError::NotDicom`].
    pub fn open(path: &Path) -> Result<Self, ScuError> {
        Self::parse(&std::fs::read(path).map_err(ScuError::File)?)
    }

    /// Takes apart the bytes of a DICOM file (PS3.10).
    ///
    /// # Errors
    /// [`ScuError::NotDicom`] without preamble, magic word and file meta information.
    pub fn parse(file: &[u8]) -> Result<Self, ScuError> {
        if file.get(MAGIC_END - 4..MAGIC_END) != Some(b"DICM") {
            return Err(ScuError::NotDicom);
        }
        let mut reader = Cursor::new(file.get(MAGIC_END - 4..).unwrap_or_default());
        let meta = FileMetaTable::from_reader(&mut reader).map_err(|_| ScuError::NotDicom)?;
        let start = MAGIC_END - 4 + usize::try_from(reader.position()).unwrap_or(usize::MAX);
        Ok(Self {
            sop_class: trimmed(meta.media_storage_sop_class_uid()),
            sop_instance: trimmed(meta.media_storage_sop_instance_uid()),
            transfer_syntax: trimmed(meta.transfer_syntax()),
            data_set: file.get(start..).unwrap_or_default().to_vec(),
        })
    }

    /// The SOP Instance UID in the file meta information. It names a real object: PHI.
    pub fn sop_instance_uid(&self) -> cloister_phi::Phi<String> {
        self.sop_instance.clone().into()
    }

    /// Cuts the data set short: a modality that lost its disk.
    pub fn truncated(mut self, bytes: usize) -> Self {
        self.data_set.truncate(bytes);
        self
    }

    /// Declares another transfer syntax than the data set has.
    pub fn with_transfer_syntax(mut self, uid: &str) -> Self {
        uid.clone_into(&mut self.transfer_syntax);
        self
    }

    /// The pair that has to be negotiated.
    fn kind(&self) -> (&str, &str) {
        (&self.sop_class, &self.transfer_syntax)
    }
}

fn trimmed(uid: &str) -> String {
    uid.trim_end_matches(['\0', ' ']).to_owned()
}

/// DIMSE status of a C-STORE response; 0000H is success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u16);

impl Status {
    /// Whether the object is now the gateway's responsibility (0000H, or warnings Bxxx).
    pub fn is_stored(self) -> bool {
        self.0 == 0 || self.0 & 0xF000 == 0xB000
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X}H", self.0)
    }
}

/// Who calls whom.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where the gateway listens.
    pub address: SocketAddr,
    /// AE title of this modality.
    pub calling: String,
    /// AE title of the gateway.
    pub called: String,
}

/// An open association for storage.
#[derive(Debug)]
pub struct Association {
    inner: AsyncClientAssociation<TcpStream>,
    next_message_id: u16,
}

impl Association {
    /// Proposes one context per kind of film (and Verification), as DCMTK's storescu does.
    ///
    /// # Errors
    /// [`ScuError`] if the peer cannot be reached or refuses.
    pub async fn open(peer: &Peer, films: &[Film]) -> Result<Self, ScuError> {
        let kinds: BTreeSet<_> = films.iter().map(Film::kind).collect();
        if kinds.len() >= MAX_CONTEXTS {
            return Err(ScuError::TooManyKinds);
        }
        let mut options = ClientAssociationOptions::new()
            .calling_ae_title(peer.calling.clone())
            .called_ae_title(peer.called.clone())
            .with_presentation_context(uids::VERIFICATION, vec![uids::IMPLICIT_VR_LITTLE_ENDIAN]);
        for (class, syntax) in kinds {
            options = options.with_presentation_context(class.to_owned(), vec![syntax.to_owned()]);
        }
        let inner = in_time(options.establish_async(peer.address)).await??;
        // A P-DATA PDU is one write; waiting to fill a segment costs 40 ms a message.
        inner_nodelay(inner).map(|inner| Self {
            inner,
            next_message_id: 1,
        })
    }

    /// C-ECHO (PS3.7 section 9.1.5).
    ///
    /// # Errors
    /// [`ScuError`] if the peer does not answer with a status.
    pub async fn echo(&mut self) -> Result<Status, ScuError> {
        let context = self.context(uids::VERIFICATION, uids::IMPLICIT_VR_LITTLE_ENDIAN)?;
        let id = self.take_message_id();
        let command = encode(&[
            element(
                tags::AFFECTED_SOP_CLASS_UID,
                VR::UI,
                uids::VERIFICATION.into(),
            ),
            element(tags::COMMAND_FIELD, VR::US, dicom_value!(U16, [0x0030])),
            element(tags::MESSAGE_ID, VR::US, dicom_value!(U16, [id])),
            element(
                tags::COMMAND_DATA_SET_TYPE,
                VR::US,
                dicom_value!(U16, [0x0101]),
            ),
        ])?;
        self.send_command(context, command).await?;
        self.answer(0x8030, id).await
    }

    /// C-STORE (PS3.7 section 9.1.1): sends one film and waits for its status.
    ///
    /// # Errors
    /// [`ScuError`]; after one, the association is of no further use.
    pub async fn store(&mut self, film: &Film) -> Result<Status, ScuError> {
        let context = self.context(&film.sop_class, &film.transfer_syntax)?;
        let id = self.take_message_id();
        let command = encode(&[
            element(
                tags::AFFECTED_SOP_CLASS_UID,
                VR::UI,
                film.sop_class.as_str().into(),
            ),
            element(tags::COMMAND_FIELD, VR::US, dicom_value!(U16, [0x0001])),
            element(tags::MESSAGE_ID, VR::US, dicom_value!(U16, [id])),
            element(tags::PRIORITY, VR::US, dicom_value!(U16, [0x0000])),
            element(
                tags::COMMAND_DATA_SET_TYPE,
                VR::US,
                dicom_value!(U16, [0x0000]),
            ),
            element(
                tags::AFFECTED_SOP_INSTANCE_UID,
                VR::UI,
                film.sop_instance.as_str().into(),
            ),
        ])?;
        self.send_command(context, command).await?;
        in_time(async {
            let mut writer = self.inner.send_pdata(context);
            writer.write_all(&film.data_set).await?;
            writer.finish().await
        })
        .await?
        .map_err(ScuError::Broken)?;
        self.answer(0x8001, id).await
    }

    /// A-RELEASE.
    ///
    /// # Errors
    /// [`ScuError`] if the peer does not answer.
    pub async fn release(self) -> Result<(), ScuError> {
        in_time(self.inner.release()).await?.map_err(ScuError::from)
    }

    fn context(&self, class: &str, syntax: &str) -> Result<u8, ScuError> {
        self.inner
            .presentation_contexts()
            .iter()
            .find(|c| c.abstract_syntax == class && trimmed(&c.transfer_syntax) == syntax)
            .map(|c| c.id)
            .ok_or(ScuError::NotAccepted)
    }

    fn take_message_id(&mut self) -> u16 {
        let id = self.next_message_id;
        self.next_message_id = self.next_message_id.wrapping_add(1).max(1);
        id
    }

    async fn send_command(&mut self, context: u8, data: Vec<u8>) -> Result<(), ScuError> {
        let value = PDataValue {
            presentation_context_id: context,
            value_type: PDataValueType::Command,
            is_last: true,
            data,
        };
        let pdu = Pdu::PData { data: vec![value] };
        in_time(self.inner.send(&pdu))
            .await?
            .map_err(ScuError::from)
    }

    /// Waits for the response `command_field` to message `id` and gives its status.
    async fn answer(&mut self, command_field: u16, id: u16) -> Result<Status, ScuError> {
        let mut command = Vec::new();
        loop {
            let Pdu::PData { data } = in_time(self.inner.receive()).await?? else {
                return Err(ScuError::OutOfProtocol);
            };
            for value in data {
                if value.value_type != PDataValueType::Command || command.len() > 4096 {
                    return Err(ScuError::OutOfProtocol);
                }
                command.extend_from_slice(&value.data);
                if value.is_last {
                    return status_of(&command, command_field, id);
                }
            }
        }
    }
}

/// Opens an association, sends one C-ECHO and releases.
///
/// # Errors
/// [`ScuError`].
pub async fn echo(peer: &Peer) -> Result<Status, ScuError> {
    let mut association = Association::open(peer, &[]).await?;
    let status = association.echo().await?;
    association.release().await?;
    Ok(status)
}

fn inner_nodelay(
    mut inner: AsyncClientAssociation<TcpStream>,
) -> Result<AsyncClientAssociation<TcpStream>, ScuError> {
    inner
        .inner_stream()
        .set_nodelay(true)
        .map_err(ScuError::Broken)?;
    Ok(inner)
}

async fn in_time<T>(work: impl Future<Output = T>) -> Result<T, ScuError> {
    tokio::time::timeout(PATIENCE, work)
        .await
        .map_err(|_| ScuError::TimedOut)
}

type Element = DataElement<InMemDicomObject>;

fn element(tag: dicom_core::Tag, vr: VR, value: PrimitiveValue) -> Element {
    DataElement::new(tag, vr, value)
}

/// A command set is always Implicit VR Little Endian (PS3.7 section 6.3.1).
fn encode(elements: &[Element]) -> Result<Vec<u8>, ScuError> {
    let command = InMemDicomObject::command_from_element_iter(elements.iter().cloned());
    let mut bytes = Vec::with_capacity(256);
    command
        .write_dataset_with_ts(&mut bytes, &entries::IMPLICIT_VR_LITTLE_ENDIAN.erased())
        .map_err(|_| ScuError::OutOfProtocol)?;
    Ok(bytes)
}

fn status_of(command: &[u8], command_field: u16, id: u16) -> Result<Status, ScuError> {
    let syntax = TransferSyntaxRegistry
        .get(uids::IMPLICIT_VR_LITTLE_ENDIAN)
        .ok_or(ScuError::OutOfProtocol)?;
    let command = InMemDicomObject::read_dataset_with_ts(command, syntax)
        .map_err(|_| ScuError::OutOfProtocol)?;
    let number = |tag| {
        command
            .get(tag)
            .and_then(|element| element.to_int::<u16>().ok())
    };
    let matches = number(tags::COMMAND_FIELD) == Some(command_field)
        && number(tags::MESSAGE_ID_BEING_RESPONDED_TO) == Some(id);
    match number(tags::STATUS) {
        Some(status) if matches => Ok(Status(status)),
        _ => Err(ScuError::OutOfProtocol),
    }
}

#[cfg(test)]
mod tests {
    use super::{Film, ScuError, Status, element, encode, status_of};
    use dicom_core::{VR, dicom_value};
    use dicom_dictionary_std::tags;

    #[test]
    fn a_response_to_another_message_is_out_of_protocol() {
        let response = encode(&[
            element(tags::COMMAND_FIELD, VR::US, dicom_value!(U16, [0x8001])),
            element(
                tags::MESSAGE_ID_BEING_RESPONDED_TO,
                VR::US,
                dicom_value!(U16, [7]),
            ),
            element(tags::STATUS, VR::US, dicom_value!(U16, [0xA700])),
        ])
        .unwrap();
        assert_eq!(status_of(&response, 0x8001, 7).unwrap(), Status(0xA700));
        assert!(matches!(
            status_of(&response, 0x8001, 8),
            Err(ScuError::OutOfProtocol)
        ));
        assert!(matches!(
            status_of(&response, 0x8030, 7),
            Err(ScuError::OutOfProtocol)
        ));
    }

    #[test]
    fn garbage_is_not_a_film() {
        assert!(matches!(Film::parse(b""), Err(ScuError::NotDicom)));
        assert!(matches!(Film::parse(&[0; 4096]), Err(ScuError::NotDicom)));
    }

    #[test]
    fn only_success_and_warnings_mean_stored() {
        assert!(Status(0).is_stored() && Status(0xB007).is_stored());
        assert!(!Status(0xA700).is_stored() && !Status(0x0110).is_stored());
    }
}
