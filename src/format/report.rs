//! The body of a report: how a change fares on a node, in one datagram of gossip. Which path and image it is about the
//! watching node knows from the change's id, who says so gossip; repeating and acknowledging are gossip's, too.

use super::cbor::{self, CborError, Reader};
use super::supply;
use crate::model::ids::ChangeId;
use crate::model::limits;
use crate::model::origins::{Origins, Supply};

/// How a change fares on one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The name of the deployment's state.
    pub state: String,
    /// How it ended, if it did: the word of an outcome.
    pub result: Option<String>,
    /// Why, where that isn't obvious.
    pub reason: Option<String>,
    /// What it waits for, if it waits.
    pub waiting: Option<String>,
    /// Bytes that are there.
    pub bytes_done: u64,
    /// Bytes of the image.
    pub bytes_total: u64,
    /// Where its bytes came from.
    pub bytes: Origins,
    /// The largest of them by whom.
    pub sources: Vec<Supply>,
}

const ITEMS: usize = 12;
const _: () = assert!(
    1 + 2 + ChangeId::LEN + 3 + 2 * (2 + limits::WORD_BYTES_MAX) + 2 * (3 + limits::REPORT_TEXT_BYTES_MAX) + 6 * 9
        <= limits::REPORT_BYTES_MAX
);

impl Standing {
    /// At its end: in one word, why, and where its bytes came from.
    pub fn ended(result: &str, reason: Option<String>, bytes: Origins) -> Self {
        Self {
            state: result.to_owned(),
            result: Some(result.to_owned()),
            reason,
            bytes_done: bytes.total(),
            bytes_total: bytes.total(),
            bytes,
            ..Self::default()
        }
    }

    /// With its texts cut to what a report may carry.
    pub fn cut(mut self) -> Self {
        cut(&mut self.state, limits::WORD_BYTES_MAX);
        for (text, max) in [
            (&mut self.result, limits::WORD_BYTES_MAX),
            (&mut self.reason, limits::REPORT_TEXT_BYTES_MAX),
            (&mut self.waiting, limits::REPORT_TEXT_BYTES_MAX),
        ] {
            if let Some(text) = text {
                cut(text, max);
            }
        }
        self
    }
}

fn cut(text: &mut String, max: usize) {
    text.truncate(text.floor_char_boundary(max));
}

/// The array of change, state, result, reason, waiting, and bytes done, in all, linked, copied, kept, fetched, and sources; at
/// most [`limits::REPORT_BYTES_MAX`]: long texts are cut, and of the sources there are as many as there is room for.
pub fn encode(change: &ChangeId, standing: &Standing) -> Vec<u8> {
    let standing = standing.clone().cut();
    let mut out = Vec::with_capacity(128);
    cbor::put_array(&mut out, ITEMS);
    cbor::put_bytes(&mut out, change.as_bytes());
    cbor::put_text(&mut out, &standing.state);
    for text in [&standing.result, &standing.reason, &standing.waiting] {
        match text {
            Some(text) => cbor::put_text(&mut out, text),
            None => cbor::put_null(&mut out),
        }
    }
    let Origins { linked, copied, kept, fetched } = standing.bytes;
    for bytes in [standing.bytes_done, standing.bytes_total, linked, copied, kept, fetched] {
        cbor::put_uint(&mut out, bytes);
    }
    let room = limits::REPORT_BYTES_MAX - out.len();
    supply::put_all(&mut out, &standing.sources, room);
    out
}

/// The inverse of [`encode`].
pub fn decode(bytes: &[u8]) -> Result<(ChangeId, Standing), CborError> {
    let mut reader = Reader::new(bytes);
    if reader.array(ITEMS)? != ITEMS {
        return Err(reader.error("a report that doesn't have twelve items"));
    }
    let change = ChangeId::new(reader.array_of()?);
    let word = limits::WORD_BYTES_MAX;
    let standing = Standing {
        state: reader.text(word)?.to_owned(),
        result: text_or_null(&mut reader, word)?,
        reason: text_or_null(&mut reader, limits::REPORT_TEXT_BYTES_MAX)?,
        waiting: text_or_null(&mut reader, limits::REPORT_TEXT_BYTES_MAX)?,
        bytes_done: reader.uint()?,
        bytes_total: reader.uint()?,
        bytes: Origins {
            linked: reader.uint()?,
            copied: reader.uint()?,
            kept: reader.uint()?,
            fetched: reader.uint()?,
        },
        sources: supply::read_all(&mut reader)?,
    };
    reader.end()?;
    Ok((change, standing))
}

fn text_or_null(reader: &mut Reader<'_>, max: usize) -> Result<Option<String>, CborError> {
    reader.nullable(|reader| reader.text(max).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::format::supply::tests::supplies;

    fn standing() -> impl Strategy<Value = Standing> {
        let text = || option::of(".{0,600}");
        (".{0,100}", text(), text(), text(), any::<[u64; 6]>(), supplies()).prop_map(
            |(state, result, reason, waiting, bytes, sources)| {
                let [bytes_done, bytes_total, linked, copied, kept, fetched] = bytes;
                let bytes = Origins { linked, copied, kept, fetched };
                Standing { state, result, reason, waiting, bytes_done, bytes_total, bytes, sources }
            },
        )
    }

    proptest! {
        #[test]
        fn round_trip(change in any::<[u8; 32]>(), standing in standing()) {
            let bytes = encode(&ChangeId::new(change), &standing);
            prop_assert!(bytes.len() <= limits::REPORT_BYTES_MAX);
            let (told, mut read) = decode(&bytes).expect("a report");
            // Texts go first.
            prop_assert!(read.sources.iter().all(|supply| standing.sources.contains(supply)));
            if standing.reason.is_none() && standing.waiting.is_none() {
                prop_assert_eq!(&read.sources, &standing.sources);
            }
            read.sources.clone_from(&standing.sources);
            prop_assert_eq!((told, read), (ChangeId::new(change), standing.cut()));
        }

        #[test]
        fn any_bytes_are_an_error_or_a_report(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok((change, standing)) = decode(&bytes) {
                prop_assert_eq!(decode(&encode(&change, &standing)), Ok((change, standing)));
            }
        }
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let bytes = encode(&ChangeId::new([7; 32]), &Standing { state: "fetch".to_owned(), ..Standing::default() });
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "{end} bytes");
        }
        assert!(decode(&[bytes, vec![0]].concat()).is_err());
    }
}
