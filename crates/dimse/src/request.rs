//! A-ASSOCIATE-RQ (PS3.8 section 9.3.2), read so that no request costs more than itself: every
//! field is a slice of the PDU, and nothing is kept but what `negotiate` looks at. Items that are
//! not known are skipped (PS3.8 section 9.3.1); reserved fields are not tested.

use bytes::{Buf as _, Bytes};

/// There are 128 odd numbers in a byte (PS3.8 table 9-13).
const MAX_CONTEXTS: usize = 128;
/// A UID, or what pretends to be one.
const MAX_NAME_BYTES: usize = 64;

/// The request is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the A-ASSOCIATE-RQ is malformed")]
pub struct RequestError;

type Result<T> = std::result::Result<T, RequestError>;

/// What a peer asks for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Bit 0 is version 1 (PS3.8 table 9-11).
    pub protocol_version: u16,
    /// As it came: the answer gives it back (PS3.8 table 9-17).
    pub called: [u8; 16],
    /// As it came.
    pub calling: [u8; 16],
    /// As it came.
    pub reserved: [u8; 32],
    /// Application context name.
    pub application_context: Bytes,
    /// Presentation contexts as proposed, 128 at most, no number twice.
    pub contexts: Vec<Proposed>,
    /// Longest P-DATA-TF that the peer takes; 0 = any (PS3.8 annex D.1).
    pub max_pdu_bytes: u32,
    /// Asked for an asynchronous operations window (PS3.7 annex D.3.3.3).
    pub asynchronous: bool,
    /// SCP/SCU role selections (PS3.7 annex D.3.3.4).
    pub roles: Vec<Role>,
}

/// What the peer would be for a SOP class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its UID as it came.
    pub class: Bytes,
    /// It would be user.
    pub scu: bool,
    /// It would be provider.
    pub scp: bool,
}

/// A proposed presentation context.
#[derive(Debug, Clone)]
pub struct Proposed {
    /// Its number; odd in a right request.
    pub id: u8,
    /// Empty where the item names none.
    pub abstract_syntax: Bytes,
    transfer_syntaxes: Bytes,
}

impl Proposed {
    /// The transfer syntaxes in the peer's order.
    pub fn transfer_syntaxes(&self) -> impl Iterator<Item = Bytes> + use<> {
        let mut items = self.transfer_syntaxes.clone();
        // Every item was read once already, so none fails here.
        std::iter::from_fn(move || item(&mut items).ok().flatten())
            .filter(|(kind, _)| *kind == 0x40)
            .map(|(_, value)| value)
    }
}

impl Request {
    /// Reads the PDU's body: everything after its length.
    ///
    /// # Errors
    /// [`RequestError`]: an item passes its end, or a context number stands twice.
    pub fn parse(mut body: Bytes) -> Result<Self> {
        if body.len() < 68 {
            return Err(RequestError);
        }
        let mut request = Self {
            protocol_version: body.get_u16(),
            ..Self::default()
        };
        body.advance(2);
        body.copy_to_slice(&mut request.called);
        body.copy_to_slice(&mut request.calling);
        body.copy_to_slice(&mut request.reserved);
        while let Some((kind, value)) = item(&mut body)? {
            match kind {
                0x10 => request.application_context = value,
                0x20 if request.contexts.len() < MAX_CONTEXTS => {
                    let proposed = proposed(value)?;
                    // Which of the two would the answer be about?
                    if request.contexts.iter().any(|one| one.id == proposed.id) {
                        return Err(RequestError);
                    }
                    request.contexts.push(proposed);
                }
                0x20 => return Err(RequestError),
                0x50 => request.user_information(value)?,
                _ => {}
            }
        }
        Ok(request)
    }

    fn user_information(&mut self, mut items: Bytes) -> Result<()> {
        while let Some((kind, mut value)) = item(&mut items)? {
            match kind {
                0x51 if value.len() == 4 => self.max_pdu_bytes = value.get_u32(),
                0x51 => return Err(RequestError),
                0x53 => self.asynchronous = true,
                0x54 if self.roles.len() < MAX_CONTEXTS => {
                    if value.len() < 4 {
                        return Err(RequestError);
                    }
                    let length = usize::from(value.get_u16());
                    if value.len() != length + 2 {
                        return Err(RequestError);
                    }
                    let class = value.split_to(length);
                    self.roles.push(Role {
                        class,
                        scu: value.get_u8() == 1,
                        scp: value.get_u8() == 1,
                    });
                }
                0x58 => user_identity(value)?,
                // Implementation names and extended negotiation change nothing here.
                _ => {}
            }
        }
        Ok(())
    }
}

/// User identity (PS3.7 table D.3-14): not used, because whoever wants to be known shows a
/// certificate; but a request with a broken one is broken.
fn user_identity(mut value: Bytes) -> Result<()> {
    if value.len() < 2 {
        return Err(RequestError);
    }
    value.advance(2);
    for _field in ["primary", "secondary"] {
        if value.len() < 2 {
            return Err(RequestError);
        }
        let length = usize::from(value.get_u16());
        if length > value.len() {
            return Err(RequestError);
        }
        value.advance(length);
    }
    Ok(())
}

/// The next item: type, reserved byte, length, value; `None` at the end.
///
/// # Errors
/// [`RequestError`]: it passes the end.
pub fn item(items: &mut Bytes) -> Result<Option<(u8, Bytes)>> {
    if items.is_empty() {
        return Ok(None);
    }
    if items.len() < 4 {
        return Err(RequestError);
    }
    let kind = items.get_u8();
    items.advance(1);
    let length = usize::from(items.get_u16());
    if length > items.len() {
        return Err(RequestError);
    }
    Ok(Some((kind, items.split_to(length))))
}

/// PS3.8 table 9-13.
fn proposed(mut value: Bytes) -> Result<Proposed> {
    if value.len() < 4 {
        return Err(RequestError);
    }
    let id = value.get_u8();
    value.advance(3);
    let transfer_syntaxes = value.clone();
    let mut abstract_syntax = Bytes::new();
    while let Some((kind, name)) = item(&mut value)? {
        if kind == 0x30 {
            abstract_syntax = name;
        }
    }
    Ok(Proposed {
        id,
        abstract_syntax,
        transfer_syntaxes,
    })
}

/// A UID without its padding; `None` for what is too long or no text.
pub fn name(bytes: &Bytes) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let text = text.trim_end_matches(['\0', ' ']);
    (text.len() <= MAX_NAME_BYTES).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{body, context, item};

    const AE: &[u8; 16] = b"A               ";

    #[test]
    fn what_is_not_known_is_skipped_and_what_is_known_is_read() {
        let user = [
            item(0x51, &16384u32.to_be_bytes()),
            item(0x53, &[0, 5, 0, 5]),
            item(0x54, &[0, 3, b'1', b'.', b'2', 1, 0]),
            item(0x58, &[1, 1, 0, 1, b'u', 0, 0]),
            item(0x7F, b"who knows"),
        ];
        let items = [
            item(0x99, b"a stranger"),
            context(1, "1.2", &["1.3\0", "1.4"]),
            item(0x50, &user.concat()),
        ];
        let request = Request::parse(body(AE, AE, &items)).unwrap();
        assert_eq!((request.max_pdu_bytes, request.asynchronous), (16384, true));
        let role = Role {
            class: Bytes::from_static(b"1.2"),
            scu: true,
            scp: false,
        };
        assert_eq!(request.roles, [role]);
        let syntaxes: Vec<_> = request.contexts[0].transfer_syntaxes().collect();
        let names: Vec<_> = syntaxes.iter().filter_map(name).collect();
        assert_eq!(names, ["1.3", "1.4"]);
    }

    #[test]
    fn a_context_number_stands_for_one_context() {
        let twice = [context(1, "1.2", &["1.3"]), context(1, "1.4", &["1.3"])];
        assert!(Request::parse(body(AE, AE, &twice)).is_err());
        let many: Vec<_> = (0..=255).map(|id| context(id, "1.2", &["1.3"])).collect();
        assert!(Request::parse(body(AE, AE, &many)).is_err(), "256 contexts");
        let most: Vec<_> = (0..128)
            .map(|n| context(2 * n + 1, "1.2", &["1.3"]))
            .collect();
        assert_eq!(
            Request::parse(body(AE, AE, &most)).unwrap().contexts.len(),
            128
        );
    }

    #[test]
    fn a_user_identity_is_skipped_when_whole_and_refused_when_broken() {
        for (identity, good) in [
            (&[1, 0, 0, 1, b'u', 0, 0][..], true),
            (&[9, 9, 0, 0, 0, 2, b'p', b'p'], true),
            (&[1, 0, 0, 9, b'u', 0, 0], false),
            (&[1, 0, 0, 1, b'u'], false),
            (&[1], false),
        ] {
            let items = [item(0x50, &item(0x58, identity))];
            assert_eq!(
                Request::parse(body(AE, AE, &items)).is_ok(),
                good,
                "{identity:?}"
            );
        }
    }

    #[test]
    fn a_request_cut_anywhere_inside_an_item_is_malformed() {
        let whole = body(AE, AE, &[context(1, "1.2", &["1.3"])]);
        let ends = [68, 68 + 25, whole.len()];
        for length in 0..whole.len() {
            let cut = Request::parse(whole.slice(..length));
            assert_eq!(cut.is_ok(), ends.contains(&length), "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(request) = Request::parse(bytes.into()) {
                for proposed in &request.contexts {
                    prop_assert!(proposed.transfer_syntaxes().count() < 100);
                }
            }
        }

        #[test]
        fn no_change_of_a_good_request_makes_it_panic(at in 0usize..200, byte in any::<u8>()) {
            let mut bytes = body(AE, AE, &[
                context(1, "1.2", &["1.3", "1.4"]),
                item(0x50, &item(0x54, &[0, 3, b'1', b'.', b'2', 1, 0])),
            ]).to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            drop(Request::parse(bytes.into()));
        }
    }
}
