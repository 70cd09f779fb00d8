//! What the fuzz targets in `fuzz/` call: each takes any bytes, must end, and must hold what it
//! says. No part of the public interface.

use bytes::Bytes;

use crate::command::{Command, Status};
use crate::pdu::{HEADER_BYTES, Incoming, Phase, decode, length};
use crate::references::References;
use crate::request::{Request, name};

const DECLARED: u32 = 16 << 10;

/// Cuts a stream into PDUs as the receiver does and reads each. The first byte says whether an
/// association stands.
pub fn pdu(data: &[u8]) {
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let phase = match first % 3 {
        0 => Phase::Accepting,
        1 => Phase::Associated,
        _ => Phase::Calling,
    };
    let mut stream = Bytes::copy_from_slice(data);
    while let Ok(Some(body)) = length(&stream, phase, DECLARED) {
        assert!(body <= 1 << 20, "a length beyond every limit was taken");
        if stream.len() < HEADER_BYTES + body {
            return;
        }
        match decode(stream.split_to(HEADER_BYTES + body)) {
            Ok(Incoming::Data(values)) => {
                let read: usize = values.flatten().map(|value| value.data.len() + 6).sum();
                assert!(read <= body, "more data than came");
            }
            Ok(Incoming::Associate(request)) => look_at(&request),
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// Reads the body of an A-ASSOCIATE-RQ.
pub fn request(data: &[u8]) {
    if let Ok(request) = Request::parse(Bytes::copy_from_slice(data)) {
        look_at(&request);
    }
}

fn look_at(request: &Request) {
    assert!(request.contexts.len() <= 128 && request.roles.len() <= 128);
    for context in &request.contexts {
        assert!(name(&context.abstract_syntax).is_none_or(|name| name.len() <= 64));
        for syntax in context.transfer_syntaxes() {
            assert!(name(&syntax).is_none_or(|name| name.len() <= 64));
        }
    }
}

/// Reads a command set; what is answered can be read again and is a response.
pub fn command(data: &[u8]) {
    let Ok(command) = Command::parse(data) else {
        return;
    };
    drop((command.sop_class(), command.sop_instance()));
    let answer = command.response(Status::Success);
    let declared = answer.get(8..12).and_then(|four| four.try_into().ok());
    let declared = declared.map_or(0, u32::from_le_bytes) as usize;
    assert_eq!(declared + 12, answer.len(), "the group length is wrong");
}

/// Reads the data set of a Storage Commitment request or report; what it says is written and read
/// again. The first byte chooses the encoding.
pub fn references(data: &[u8]) {
    const MOST: usize = 64;
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let implicit = first % 2 == 0;
    let Ok(read) = References::parse(data, implicit, MOST) else {
        return;
    };
    assert!(read.referenced.len() <= MOST && read.failed.len() <= MOST);
    let written = read.encode(!implicit);
    let again = References::parse(&written, !implicit, MOST);
    assert!(
        again.is_ok_and(|again| again.referenced.len() == read.referenced.len()
            && again.failed.len() == read.failed.len()),
        "what was written is not what was read"
    );
}
