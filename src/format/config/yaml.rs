//! YAML mappings whose fields are known beforehand, each value with its line. All that is wrong with the fields is gathered;
//! only broken YAML ends the reading. A value of the wrong shape ends it too, as the library has it: then the text is read
//! again without that field.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_saphyr::{Error, MergeKeyPolicy, Options, Spanned, budget, options};

use super::{ConfigError, Problem, nearest, printable};
use crate::model::limits;

/// A field that a mapping may have.
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// What the value should be, for the message when it isn't: "`true` or `false`".
    pub(super) expected: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Kept as text: `yes`, `12` and `"12"` alike.
    Scalar,
    List,
}

/// A text and the line where it stands.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) line: usize,
}

/// A field that was there.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) line: usize,
    /// One for a scalar.
    pub(super) values: Vec<Text>,
}

/// What was read so far; kept outside serde's calls, which return only an error when one occurs.
#[derive(Default)]
struct Progress {
    errors: Vec<ConfigError>,
    /// Name and expectation of the value that is being read, and the line of its name.
    current: Option<(String, &'static str, usize)>,
    /// Lines of fields whose values are of a wrong shape: not read.
    passed_over: BTreeSet<usize>,
}

/// Reads one mapping.
pub(super) fn read_mapping(text: &str, known: &[Known]) -> (Vec<Field>, Vec<ConfigError>) {
    read(text, |progress, de| Mapping { known, progress }.deserialize(de))
}

/// Reads a mapping from names to mappings.
pub(super) fn read_mappings(text: &str, known: &[Known]) -> (Vec<(Text, Vec<Field>)>, Vec<ConfigError>) {
    read(text, |progress, de| de.deserialize_map(Outer(Mapping { known, progress })))
}

fn read<T: Default>(
    text: &str,
    fill: impl Fn(&RefCell<Progress>, serde_saphyr::Deserializer<'_, '_>) -> Result<T, Error>,
) -> (T, Vec<ConfigError>) {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return (T::default(), Vec::new());
    }
    let (mut passed_over, mut of_shape) = (BTreeSet::new(), Vec::new());
    loop {
        let progress = RefCell::new(Progress { passed_over: passed_over.clone(), ..Progress::default() });
        let result = serde_saphyr::with_deserializer_from_str_with_options(text, bounded(), |de| fill(&progress, de));
        let Progress { mut errors, current, .. } = progress.into_inner();
        let value = match result {
            Ok(value) => value,
            Err(error) => {
                let line = current.as_ref().map(|(_, _, line)| *line);
                let error = config_error(&error, current);
                let again = matches!(error.problem, Problem::Expected { .. })
                    && of_shape.len() < limits::CONFIG_PROBLEMS_MAX
                    && line.is_some_and(|line| passed_over.insert(line));
                if again {
                    of_shape.push(error);
                    continue;
                }
                errors.push(error);
                T::default()
            }
        };
        errors.append(&mut of_shape);
        return (value, errors);
    }
}

/// Bounds against documents that unfold to something huge. Aliases and merge keys have no use here.
fn bounded() -> Options {
    options! {
        budget: budget! {
            max_events: limits::CONFIG_NODES_MAX * 3,
            max_nodes: limits::CONFIG_NODES_MAX,
            max_aliases: 0,
            max_anchors: 0,
            max_depth: limits::CONFIG_DEPTH_MAX,
            flow_nesting_limit: limits::CONFIG_DEPTH_MAX,
            max_documents: 1,
            max_merge_keys: 0,
            max_buffered_comment_events: limits::CONFIG_NODES_MAX,
        },
        merge_keys: MergeKeyPolicy::AsOrdinary,
        with_snippet: false,
    }
}

fn config_error(error: &Error, current: Option<(String, &'static str, usize)>) -> ConfigError {
    let line = error.location().and_then(|location| line_of(&location));
    let of_value = matches!(
        error.without_snippet(),
        Error::Unexpected { .. }
            | Error::NullIntoString { .. }
            | Error::SerdeInvalidType { .. }
            | Error::TaggedScalarCannotDeserializeIntoString { .. }
    );
    let problem = match (current, error.without_snippet()) {
        (_, Error::DuplicateMappingKey { key, .. }) => Problem::Twice(key.clone().unwrap_or_default()),
        (Some((field, expected, _)), _) if of_value => Problem::Expected { field, expected, found: None },
        (None, _) if of_value => Problem::NotAMapping,
        (_, other) => Problem::Yaml(first_line(&other.to_string())),
    };
    ConfigError { line, problem }
}

/// The library's message, without its own way to say where (we say the line) and without further lines.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.split_once(" at line ").map_or(line, |(before, _)| before);
    printable(line)
}

fn line_of(location: &serde_saphyr::Location) -> Option<usize> {
    usize::try_from(location.line()).ok().filter(|&line| line > 0)
}

fn text_of(spanned: Spanned<String>) -> Text {
    Text { line: line_of(&spanned.referenced).unwrap_or_default(), text: spanned.value }
}

/// A mapping with known fields.
#[derive(Clone, Copy)]
struct Mapping<'a> {
    known: &'a [Known],
    progress: &'a RefCell<Progress>,
}

impl<'de> DeserializeSeed<'de> for Mapping<'_> {
    type Value = Vec<Field>;
    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Self::Value, D::Error> {
        de.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Mapping<'_> {
    type Value = Vec<Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let Text { text: name, line } = text_of(key);
            let Some(known) = self.known.iter().find(|known| known.name == name) else {
                map.next_value::<IgnoredAny>()?;
                let meant = nearest(&name, self.known.iter().map(|known| known.name)).map(str::to_owned);
                let errors = &mut self.progress.borrow_mut().errors;
                if errors.len() < limits::CONFIG_PROBLEMS_MAX {
                    errors.push(ConfigError { line: Some(line), problem: Problem::UnknownField { name, meant } });
                }
                continue;
            };
            let passed_over = self.progress.borrow().passed_over.contains(&line);
            self.progress.borrow_mut().current = Some((name, known.expected, line));
            let values = match known.shape {
                _ if passed_over => {
                    map.next_value::<IgnoredAny>()?;
                    Vec::new()
                }
                Shape::Scalar => vec![text_of(map.next_value::<Spanned<String>>()?)],
                Shape::List => map.next_value::<Vec<Spanned<String>>>()?.into_iter().map(text_of).collect(),
            };
            self.progress.borrow_mut().current = None;
            fields.push(Field { name: known.name, line, values });
        }
        Ok(fields)
    }
}

/// A mapping from names to mappings.
struct Outer<'a>(Mapping<'a>);

impl<'de> Visitor<'de> for Outer<'_> {
    type Value = Vec<(Text, Vec<Field>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let name = text_of(key);
            if self.0.progress.borrow().passed_over.contains(&name.line) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            self.0.progress.borrow_mut().current =
                Some((name.text.clone(), "a mapping, as in `directory: PATH`", name.line));
            entries.push((name, map.next_value_seed(self.0)?));
        }
        Ok(entries)
    }
}
