//! A multipart body (RFC 2046 section 5.1.1) as it streams past. Strict: what no writer of
//! `multipart/related` makes is malformed. Holds back no more than a boundary's length of data, and
//! at most [`MAX_HEAD_BYTES`] of a part's header.

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memmem::Finder;

/// Longest preamble, and longest header of a part.
const MAX_HEAD_BYTES: usize = 8 << 10;
/// White space that may follow a boundary.
const MAX_PADDING_BYTES: usize = 64;

/// The body is not what its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the multipart body is malformed")]
pub(super) struct MultipartError;

/// What comes, in order. Holds content, so it has no `Debug`.
pub(super) enum Event {
    /// A part begins; its header without the empty line.
    Part(Bytes),
    /// More of its content.
    Data(Bytes),
    /// It ends.
    EndOfPart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Preamble,
    /// After a boundary.
    Boundary,
    Header,
    Content,
    /// After the last boundary: ignored.
    Epilogue,
}

/// The parser.
pub(super) struct Multipart {
    delimiter: Finder<'static>,
    buffer: BytesMut,
    state: State,
}

impl Multipart {
    pub(super) fn new(boundary: &str) -> Self {
        let delimiter = format!("\r\n--{boundary}");
        Self {
            delimiter: Finder::new(&delimiter).into_owned(),
            // The first boundary needs no line before it.
            buffer: BytesMut::from("\r\n"),
            state: State::Preamble,
        }
    }

    /// Takes more of the body; then [`Multipart::next`] until it has nothing left.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        if self.state != State::Epilogue {
            self.buffer.extend_from_slice(chunk);
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Event>, MultipartError> {
        loop {
            match self.state {
                State::Preamble => match self.delimiter.find(&self.buffer) {
                    Some(at) => {
                        self.buffer.advance(at + self.delimiter.needle().len());
                        self.state = State::Boundary;
                    }
                    None if self.buffer.len() > MAX_HEAD_BYTES => return Err(MultipartError),
                    None => return Ok(None),
                },
                State::Boundary => {
                    if !self.boundary()? {
                        return Ok(None);
                    }
                }
                State::Header => return self.header(),
                State::Content => return Ok(self.content()),
                State::Epilogue => {
                    self.buffer.clear();
                    return Ok(None);
                }
            }
        }
    }

    /// True when the rest of the boundary's line is known.
    fn boundary(&mut self) -> Result<bool, MultipartError> {
        if self.buffer.starts_with(b"--") {
            self.state = State::Epilogue;
            return Ok(true);
        }
        let padding = self
            .buffer
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t'))
            .count();
        if padding > MAX_PADDING_BYTES {
            return Err(MultipartError);
        }
        match self.buffer.get(padding..).unwrap_or_default() {
            [b'\r', b'\n', ..] => {
                // The line's end stays: with an empty header it is the empty line's, too.
                self.buffer.advance(padding);
                self.state = State::Header;
                Ok(true)
            }
            [] | [b'\r'] => Ok(false),
            [b'-'] if padding == 0 => Ok(false),
            _ => Err(MultipartError),
        }
    }

    fn header(&mut self) -> Result<Option<Event>, MultipartError> {
        match memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
            Some(at) if at <= MAX_HEAD_BYTES => {
                let mut header = self.buffer.split_to(at + 4).freeze();
                header.truncate(at);
                header.advance(header.len().min(2));
                self.state = State::Content;
                Ok(Some(Event::Part(header)))
            }
            Some(_) => Err(MultipartError),
            None if self.buffer.len() > MAX_HEAD_BYTES => Err(MultipartError),
            None => Ok(None),
        }
    }

    fn content(&mut self) -> Option<Event> {
        let needle = self.delimiter.needle().len();
        match self.delimiter.find(&self.buffer) {
            Some(0) => {
                self.buffer.advance(needle);
                self.state = State::Boundary;
                Some(Event::EndOfPart)
            }
            Some(at) => Some(Event::Data(self.buffer.split_to(at).freeze())),
            None if self.buffer.len() < needle => None,
            None => {
                let sure = self.buffer.len() - (needle - 1);
                Some(Event::Data(self.buffer.split_to(sure).freeze()))
            }
        }
    }

    /// Whether the last boundary has come.
    pub(super) fn is_whole(&self) -> bool {
        self.state == State::Epilogue
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Parts = Vec<(Vec<u8>, Vec<u8>)>;

    /// Parses `body` in chunks of `size`.
    fn parse(body: &[u8], size: usize) -> Result<Option<Parts>, MultipartError> {
        let mut multipart = Multipart::new("b0");
        let (mut parts, mut open) = (Parts::new(), false);
        for chunk in body.chunks(size) {
            multipart.push(chunk);
            while let Some(event) = multipart.next()? {
                match event {
                    Event::Part(header) => {
                        assert!(!std::mem::replace(&mut open, true));
                        parts.push((header.to_vec(), Vec::new()));
                    }
                    Event::Data(data) => {
                        assert!(open && !data.is_empty());
                        parts.last_mut().unwrap().1.extend_from_slice(&data);
                    }
                    Event::EndOfPart => assert!(std::mem::replace(&mut open, false)),
                }
            }
            assert!(
                multipart.buffer.len() <= MAX_HEAD_BYTES + size + 8,
                "bounded"
            );
        }
        Ok(multipart.is_whole().then_some(parts))
    }

    fn write(parts: &Parts) -> Vec<u8> {
        let mut body = Vec::new();
        for (header, content) in parts {
            body.extend_from_slice(b"\r\n--b0\r\n");
            body.extend_from_slice(header);
            body.extend_from_slice(if header.is_empty() {
                b"\r\n"
            } else {
                b"\r\n\r\n"
            });
            body.extend_from_slice(content);
        }
        body.extend_from_slice(b"\r\n--b0--\r\n");
        body
    }

    #[test]
    fn preamble_padding_and_epilogue_are_no_part() {
        let body = b"hello\r\n--b0 \t\r\nA: b\r\n\r\nx\r\n-\r\n--b0--bye\r\n--b0\r\n\r\ny";
        let expected = Some(vec![(b"A: b".to_vec(), b"x\r\n-".to_vec())]);
        for size in [1, 2, 7, 100] {
            assert_eq!(parse(body, size).unwrap(), expected, "{size}");
        }
        assert_eq!(parse(&body[2 + 3..], 3).unwrap(), expected);
    }

    #[test]
    fn what_no_writer_makes_is_malformed_and_what_is_cut_is_not_whole() {
        assert!(parse(b"--b0x\r\n\r\ny\r\n--b0--", 5).is_err());
        assert!(
            parse(&vec![b'x'; 3 * MAX_HEAD_BYTES], 1000).is_err(),
            "endless preamble"
        );
        let endless = [&b"--b0\r\nA: "[..], &vec![b'x'; 3 * MAX_HEAD_BYTES]].concat();
        assert!(parse(&endless, 1000).is_err(), "endless header");
        let padded = [&b"--b0"[..], &[b' '; 1000]].concat();
        assert!(parse(&padded, 1000).is_err(), "endless padding");
        let whole = write(&vec![(b"A: b".to_vec(), b"content".to_vec())]);
        let last = whole.len() - 2;
        for length in 0..last {
            assert_eq!(parse(&whole[..length], 11).unwrap(), None, "{length}");
        }
        assert!(parse(&whole[..last], 11).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn parts_come_out_as_they_went_in_however_they_are_cut(
            parts in proptest::collection::vec((
                "([A-Za-z-]{1,9}: [a-z]{0,9})?".prop_map(String::into_bytes),
                proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'b'), any::<u8>()], 0..60)
                    .prop_filter("no boundary", |content| memchr::memmem::find(content, b"--b0").is_none()),
            ), 0..4),
            size in 1usize..80,
        ) {
            let body = write(&parts);
            prop_assert_eq!(parse(&body, size).unwrap(), Some(parts));
        }

        #[test]
        fn no_bytes_make_it_panic(
            body in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'b'), Just(b'0'), any::<u8>()], 0..300),
            size in 1usize..50,
        ) {
            drop(parse(&body, size));
        }
    }
}
