//! DIMSE command sets (PS3.7 section 6.3 and annex E): group 0000 in implicit VR little endian.

use cloister_phi::Uid;

/// Longest command set that is read.
pub const MAX_COMMAND_BYTES: usize = 16 << 10;

const AFFECTED_SOP_CLASS_UID: u16 = 0x0002;
const REQUESTED_SOP_CLASS_UID: u16 = 0x0003;
const COMMAND_FIELD: u16 = 0x0100;
const MESSAGE_ID: u16 = 0x0110;
const MESSAGE_ID_RESPONDED_TO: u16 = 0x0120;
const COMMAND_DATA_SET_TYPE: u16 = 0x0800;
const STATUS: u16 = 0x0900;
const AFFECTED_SOP_INSTANCE_UID: u16 = 0x1000;
const REQUESTED_SOP_INSTANCE_UID: u16 = 0x1001;
const EVENT_TYPE_ID: u16 = 0x1002;
const ACTION_TYPE_ID: u16 = 0x1008;
const NO_DATA_SET: u16 = 0x0101;
/// Any other value says that there is one.
const A_DATA_SET: u16 = 0x0001;
const PRIORITY: u16 = 0x0700;

/// C-STORE-RQ in the command field (PS3.7 annex E.1).
pub const C_STORE_RQ: u16 = 0x0001;
/// C-ECHO-RQ in the command field.
pub const C_ECHO_RQ: u16 = 0x0030;
/// N-EVENT-REPORT-RQ in the command field.
pub const N_EVENT_REPORT_RQ: u16 = 0x0100;
/// N-ACTION-RQ in the command field.
pub const N_ACTION_RQ: u16 = 0x0130;
/// Set in the field of every response (PS3.7 annex E.1).
pub const RESPONSE: u16 = 0x8000;
/// Asks for an operation to stop; a store is over before it could be.
pub const C_CANCEL_RQ: u16 = 0x0FFF;

/// Statuses that are answered (PS3.4 table B.2-1 and PS3.7 annex C).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Success,
    /// Not negotiated, or not taken.
    SopClassNotSupported,
    /// The instance named is none.
    InvalidSopInstance,
    /// An operation that is not offered.
    UnrecognizedOperation,
    /// Disk, quota or a limit; the sender may try again.
    OutOfResources,
    /// A700 too: no room, by watermark, by quota, or on the disk itself.
    Full,
    /// A700 too: longer than any object that is taken.
    TooLarge,
    /// The data set is of another class or instance than the command.
    DataSetMismatch,
    /// The data set cannot be parsed.
    CannotUnderstand,
    /// Something went wrong here. This and what follows answer N-services (PS3.7 annex C.5).
    ProcessingFailure,
    /// The instance is not known here.
    NoSuchInstance,
    /// An event that the SOP class has not.
    NoSuchEvent,
    /// An argument that does not fit.
    InvalidArgument,
    /// An action that the SOP class has not.
    NoSuchAction,
    /// Not from this peer.
    NotAuthorized,
    /// Too much at once.
    ResourceLimitation,
    /// Of STOW-RS alone (PS3.18 table I.2-2): an association negotiates it before.
    TransferSyntaxNotSupported,
}

impl Status {
    /// As it stands in (0000,0900).
    pub const fn code(self) -> u16 {
        match self {
            Self::Success => 0x0000,
            Self::SopClassNotSupported => 0x0122,
            Self::InvalidSopInstance => 0x0117,
            Self::UnrecognizedOperation => 0x0211,
            Self::OutOfResources | Self::Full | Self::TooLarge => 0xA700,
            Self::DataSetMismatch => 0xA900,
            Self::CannotUnderstand => 0xC000,
            Self::ProcessingFailure => 0x0110,
            Self::NoSuchInstance => 0x0112,
            Self::NoSuchEvent => 0x0113,
            Self::InvalidArgument => 0x0115,
            Self::NoSuchAction => 0x0123,
            Self::NotAuthorized => 0x0124,
            Self::ResourceLimitation => 0x0213,
            Self::TransferSyntaxNotSupported => 0xC122,
        }
    }
}

/// The command set is not one: the association is aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the command set is malformed")]
pub struct CommandError;

/// A request, or the response to one of ours.
#[derive(Debug, Clone, Default)]
pub struct Command {
    /// (0000,0100).
    pub field: u16,
    /// (0000,0110), 0 in a C-CANCEL that has none; of a response: the message that it answers.
    pub message_id: u16,
    /// Whether a data set follows: (0000,0800) is not 0101.
    pub has_data_set: bool,
    /// Of a response that has none: a failure (PS3.7 annex C).
    pub status: u16,
    /// Of an N-ACTION, 0 where there is none.
    pub action_type: u16,
    /// Of an N-EVENT-REPORT, 0 where there is none.
    pub event_type: u16,
    sop_class: Vec<u8>,
    sop_instance: Vec<u8>,
}

impl Command {
    /// Reads a whole command set.
    ///
    /// # Errors
    /// [`CommandError`]: cut, another group than 0000, or a required element missing.
    pub fn parse(mut bytes: &[u8]) -> Result<Self, CommandError> {
        let (mut field, mut data_set, mut message_id, mut answers) = (None, None, None, None);
        let mut command = Self {
            status: Status::ProcessingFailure.code(),
            ..Self::default()
        };
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
                MESSAGE_ID_RESPONDED_TO => answers = Some(short()?),
                COMMAND_DATA_SET_TYPE => data_set = Some(short()?),
                STATUS => command.status = short()?,
                EVENT_TYPE_ID => command.event_type = short()?,
                ACTION_TYPE_ID => command.action_type = short()?,
                // What an N-ACTION requests is what its response calls affected.
                AFFECTED_SOP_CLASS_UID | REQUESTED_SOP_CLASS_UID => {
                    command.sop_class = value.to_vec();
                }
                AFFECTED_SOP_INSTANCE_UID | REQUESTED_SOP_INSTANCE_UID => {
                    command.sop_instance = value.to_vec();
                }
                _ => {}
            }
        }
        command.field = field.ok_or(CommandError)?;
        command.has_data_set = data_set.ok_or(CommandError)? != NO_DATA_SET;
        // C-CANCEL names the message it cancels instead.
        command.message_id = match message_id {
            None if command.field == C_CANCEL_RQ => 0,
            None if command.field & RESPONSE != 0 => answers.ok_or(CommandError)?,
            other => other.ok_or(CommandError)?,
        };
        Ok(command)
    }

    /// (0000,0002) or (0000,0003), if it is a UID.
    pub fn sop_class(&self) -> Option<Uid> {
        uid(&self.sop_class)
    }

    /// (0000,1000) or (0000,1001), if it is a UID.
    pub fn sop_instance(&self) -> Option<Uid> {
        uid(&self.sop_instance)
    }

    /// The response: UIDs are given back as they came.
    pub fn response(&self, status: Status) -> Vec<u8> {
        let mut set = CommandSet::default();
        if !self.sop_class.is_empty() {
            set.put(AFFECTED_SOP_CLASS_UID, &self.sop_class);
        }
        set.short(COMMAND_FIELD, self.field | RESPONSE);
        set.short(MESSAGE_ID_RESPONDED_TO, self.message_id);
        set.short(COMMAND_DATA_SET_TYPE, NO_DATA_SET);
        set.short(STATUS, status.code());
        if !self.sop_instance.is_empty() {
            set.put(AFFECTED_SOP_INSTANCE_UID, &self.sop_instance);
        }
        match self.field {
            N_EVENT_REPORT_RQ => set.short(EVENT_TYPE_ID, self.event_type),
            N_ACTION_RQ => set.short(ACTION_TYPE_ID, self.action_type),
            _ => {}
        }
        set.finish()
    }
}

/// C-STORE-RQ (PS3.7 table 9.3-1), priority medium.
pub fn store_request(message: u16, class: &str, instance: &str) -> Vec<u8> {
    let mut set = CommandSet::default();
    set.uid(AFFECTED_SOP_CLASS_UID, class);
    set.short(COMMAND_FIELD, C_STORE_RQ);
    set.short(MESSAGE_ID, message);
    set.short(PRIORITY, 0);
    set.short(COMMAND_DATA_SET_TYPE, A_DATA_SET);
    set.uid(AFFECTED_SOP_INSTANCE_UID, instance);
    set.finish()
}

/// N-ACTION-RQ (PS3.7 table 10.3-7) with a data set.
pub fn action_request(message: u16, class: &str, instance: &str, action: u16) -> Vec<u8> {
    let mut set = CommandSet::default();
    set.uid(REQUESTED_SOP_CLASS_UID, class);
    set.short(COMMAND_FIELD, N_ACTION_RQ);
    set.short(MESSAGE_ID, message);
    set.short(COMMAND_DATA_SET_TYPE, A_DATA_SET);
    set.uid(REQUESTED_SOP_INSTANCE_UID, instance);
    set.short(ACTION_TYPE_ID, action);
    set.finish()
}

/// N-EVENT-REPORT-RQ (PS3.7 table 10.3-1) with a data set.
pub fn event_request(message: u16, class: &str, instance: &str, event: u16) -> Vec<u8> {
    let mut set = CommandSet::default();
    set.uid(AFFECTED_SOP_CLASS_UID, class);
    set.short(COMMAND_FIELD, N_EVENT_REPORT_RQ);
    set.short(MESSAGE_ID, message);
    set.short(COMMAND_DATA_SET_TYPE, A_DATA_SET);
    set.uid(AFFECTED_SOP_INSTANCE_UID, instance);
    set.short(EVENT_TYPE_ID, event);
    set.finish()
}

/// A command set being written, in the order of its elements.
#[derive(Debug, Default)]
struct CommandSet(Vec<u8>);

impl CommandSet {
    fn put(&mut self, element: u16, value: &[u8]) {
        self.0.extend_from_slice(&[0, 0]);
        self.0.extend_from_slice(&element.to_le_bytes());
        self.0
            .extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.0.extend_from_slice(value);
    }

    fn short(&mut self, element: u16, value: u16) {
        self.put(element, &value.to_le_bytes());
    }

    /// Padded to an even length (PS3.5 section 9.1).
    fn uid(&mut self, element: u16, uid: &str) {
        let mut value = uid.as_bytes().to_vec();
        if value.len() % 2 == 1 {
            value.push(0);
        }
        self.put(element, &value);
    }

    fn finish(self) -> Vec<u8> {
        let mut out = vec![0, 0, 0, 0, 4, 0, 0, 0];
        out.extend_from_slice(&(self.0.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.0);
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
            ..Command::default()
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
