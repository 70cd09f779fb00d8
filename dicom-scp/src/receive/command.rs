//! DIMSE command sets (PS3.7 section 6.3 and annex E): group 0000 in implicit VR little endian.

use cloister_phi::Uid;

/// Longest command set that is read.
pub(crate) const MAX_COMMAND_BYTES: usize = 16 << 10;

const AFFECTED_SOP_CLASS_UID: u16 = 0x0002;
const COMMAND_FIELD: u16 = 0x0100;
const MESSAGE_ID: u16 = 0x0110;
const MESSAGE_ID_RESPONDED_TO: u16 = 0x0120;
const COMMAND_DATA_SET_TYPE: u16 = 0x0800;
const STATUS: u16 = 0x0900;
const AFFECTED_SOP_INSTANCE_UID: u16 = 0x1000;
const NO_DATA_SET: u16 = 0x0101;

/// Command fields that are answered.
pub(crate) const C_STORE_RQ: u16 = 0x0001;
pub(crate) const C_ECHO_RQ: u16 = 0x0030;
/// Set in the field of every response (PS3.7 annex E.1).
pub(crate) const RESPONSE: u16 = 0x8000;
/// Asks for an operation to stop; a store is over before it could be.
pub(crate) const C_CANCEL_RQ: u16 = 0x0FFF;

/// Statuses that are answered (PS3.4 table B.2-1 and PS3.7 annex C).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Success,
    SopClassNotSupported,
    InvalidSopInstance,
    UnrecognizedOperation,
    OutOfResources,
    /// A700 too: no room, by watermark, by quota, or on the disk itself.
    Full,
    /// A700 too: longer than any object that is taken.
    TooLarge,
    DataSetMismatch,
    CannotUnderstand,
    /// Of STOW-RS alone (PS3.18 table I.2-2): an association negotiates it before.
    TransferSyntaxNotSupported,
}

impl Status {
    pub(crate) const fn code(self) -> u16 {
        match self {
            Self::Success => 0x0000,
            Self::SopClassNotSupported => 0x0122,
            Self::InvalidSopInstance => 0x0117,
            Self::UnrecognizedOperation => 0x0211,
            Self::OutOfResources | Self::Full | Self::TooLarge => 0xA700,
            Self::DataSetMismatch => 0xA900,
            Self::CannotUnderstand => 0xC000,
            Self::TransferSyntaxNotSupported => 0xC122,
        }
    }
}

/// The command set is not one: the association is aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the command set is malformed")]
pub(crate) struct CommandError;

/// A request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Command {
    pub(crate) field: u16,
    pub(crate) message_id: u16,
    pub(crate) has_data_set: bool,
    sop_class: Vec<u8>,
    sop_instance: Vec<u8>,
}

impl Command {
    pub(crate) fn parse(mut bytes: &[u8]) -> Result<Self, CommandError> {
        let (mut field, mut data_set, mut message_id) = (None, None, None);
        let mut command = Self::default();
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_first_chunk::<8>().ok_or(CommandError)?;
            let [g0, g1, e0, e1, l @ ..] = *head;
            let length = usize::try_from(u32::from_le_bytes(l)).map_err(|_| CommandError)?;
            if u16::from_le_bytes([g0, g1]) != 0 || length > rest.len() {
                return Err(CommandError);
            }
            let (value, rest) = rest.split_at(length);
            bytes = rest;
            let short = || {
                value
                    .try_into()
                    .map(u16::from_le_bytes)
                    .map_err(|_| CommandError)
            };
            match u16::from_le_bytes([e0, e1]) {
                COMMAND_FIELD => field = Some(short()?),
                MESSAGE_ID => message_id = Some(short()?),
                COMMAND_DATA_SET_TYPE => data_set = Some(short()?),
                AFFECTED_SOP_CLASS_UID => command.sop_class = value.to_vec(),
                AFFECTED_SOP_INSTANCE_UID => command.sop_instance = value.to_vec(),
                _ => {}
            }
        }
        command.field = field.ok_or(CommandError)?;
        command.has_data_set = data_set.ok_or(CommandError)? != NO_DATA_SET;
        // C-CANCEL names the message it cancels instead.
        command.message_id = match message_id {
            None if command.field == C_CANCEL_RQ => 0,
            other => other.ok_or(CommandError)?,
        };
        Ok(command)
    }

    pub(crate) fn sop_class(&self) -> Option<Uid> {
        uid(&self.sop_class)
    }

    pub(crate) fn sop_instance(&self) -> Option<Uid> {
        uid(&self.sop_instance)
    }

    /// The response: UIDs are given back as they came.
    pub(crate) fn response(&self, status: Status) -> Vec<u8> {
        let mut body = Vec::with_capacity(160);
        let mut put = |element: u16, value: &[u8]| {
            body.extend_from_slice(&[0, 0]);
            body.extend_from_slice(&element.to_le_bytes());
            body.extend_from_slice(&(value.len() as u32).to_le_bytes());
            body.extend_from_slice(value);
        };
        if !self.sop_class.is_empty() {
            put(AFFECTED_SOP_CLASS_UID, &self.sop_class);
        }
        put(COMMAND_FIELD, &(self.field | RESPONSE).to_le_bytes());
        put(MESSAGE_ID_RESPONDED_TO, &self.message_id.to_le_bytes());
        put(COMMAND_DATA_SET_TYPE, &NO_DATA_SET.to_le_bytes());
        put(STATUS, &status.code().to_le_bytes());
        if !self.sop_instance.is_empty() {
            put(AFFECTED_SOP_INSTANCE_UID, &self.sop_instance);
        }
        let mut out = vec![0, 0, 0, 0, 4, 0, 0, 0];
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(&body);
        out
    }
}

fn uid(bytes: &[u8]) -> Option<Uid> {
    Uid::parse(std::str::from_utf8(bytes).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_response_answers_the_message_and_gives_the_uids_back() {
        let request = Command {
            field: C_STORE_RQ,
            message_id: 7,
            has_data_set: true,
            sop_class: b"1.2\0".to_vec(),
            sop_instance: b"1.3\0".to_vec(),
        };
        let bytes = request.response(Status::DataSetMismatch);
        let length = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
        assert_eq!(length, bytes.len() - 12);
        let text = hex::encode(&bytes);
        assert!(
            text.contains("000000010200000001800000")
                && text.contains("00000009020000000 0a9".replace(' ', "").as_str())
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(Command::parse(&bytes));
        }
    }
}
