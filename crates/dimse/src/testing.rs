//! Requests for tests.

use bytes::Bytes;

/// An item: type, reserved byte, length, value.
pub fn item(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind, 0][..], &(value.len() as u16).to_be_bytes(), value].concat()
}

/// A presentation context item.
pub fn context(id: u8, abstract_syntax: &str, syntaxes: &[&str]) -> Vec<u8> {
    let mut value = vec![id, 0, 0, 0];
    value.extend(item(0x30, abstract_syntax.as_bytes()));
    for syntax in syntaxes {
        value.extend(item(0x40, syntax.as_bytes()));
    }
    item(0x20, &value)
}

/// A body with the given items after its fixed part.
pub fn body(called: &[u8; 16], calling: &[u8; 16], items: &[Vec<u8>]) -> Bytes {
    let mut body = vec![0, 1, 0, 0];
    body.extend_from_slice(called);
    body.extend_from_slice(calling);
    body.extend_from_slice(&[0; 32]);
    body.extend(item(0x10, b"1.2.840.10008.3.1.1.1"));
    body.extend(items.iter().flatten());
    body.into()
}
