//! A field of a map: its name and its value.

use crate::format::cbor::{put_bytes, put_map, put_null, put_text, put_uint};
use crate::format::wire::message::Hosts;
use crate::model::ids::ImageId;
use crate::model::limits;
use crate::model::peer::Host;

/// Two fields.
pub(in crate::format::wire) fn put_host(out: &mut Vec<u8>, host: &Host) {
    field_bytes(out, "machine_id", host.machine_id.as_bytes());
    field_text(out, "hostname", &host.hostname);
}

pub(in crate::format::wire) fn put_hosts(out: &mut Vec<u8>, hosts: &Hosts) {
    put_text(out, "hosts");
    put_map(out, hosts.len().min(limits::HOSTS_MAX));
    for (machine_id, hostname) in hosts.iter().take(limits::HOSTS_MAX) {
        put_bytes(out, machine_id.as_bytes());
        put_text(out, cut(hostname, limits::TEXT_BYTES_MAX));
    }
}

pub(in crate::format::wire) fn field_bytes(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    put_text(out, name);
    put_bytes(out, bytes);
}

pub(in crate::format::wire) fn field_text(out: &mut Vec<u8>, name: &str, text: &str) {
    put_text(out, name);
    put_text(out, cut(text, limits::TEXT_BYTES_MAX));
}

pub(in crate::format::wire) fn field_uint(out: &mut Vec<u8>, name: &str, value: u64) {
    put_text(out, name);
    put_uint(out, value);
}

pub(in crate::format::wire) fn field_null(out: &mut Vec<u8>, name: &str) {
    put_text(out, name);
    put_null(out);
}

pub(in crate::format::wire) fn field_text_or_null(out: &mut Vec<u8>, name: &str, text: Option<&str>) {
    match text {
        Some(text) => field_text(out, name, text),
        None => field_null(out, name),
    }
}

pub(in crate::format::wire) fn field_image_or_null(out: &mut Vec<u8>, name: &str, image: Option<&ImageId>) {
    match image {
        Some(image) => field_bytes(out, name, image.as_bytes()),
        None => field_null(out, name),
    }
}

/// The longest start of `text` with at most `max` bytes.
pub(in crate::format::wire) fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
