//! Why nothing could be read, in sentences.

use std::fmt;

use crate::model::ids::ImageId;

/// What one node answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Name and address.
    pub node: String,
    /// The directory and its image; `None`: nothing is visible there.
    pub there: Option<(String, ImageId)>,
}

/// Why nothing was read. Nothing was changed anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No node answered; what was tried, and why it failed.
    Unreachable(Vec<(String, String)>),
    /// Nodes answered, and none carries the directory.
    NotCarried { key: String, asked: Vec<String> },
    /// Nothing is visible at the path, nor at any path above it.
    NothingThere { path: String, asked: Vec<String> },
    /// As many have one image as have another one.
    Disagree(Vec<Answer>),
    /// Nobody has the image that was asked for.
    NoSuchImage { image: ImageId, answers: Vec<Answer> },
    /// The image has no such entry.
    NoEntry { directory: String, image: ImageId, entry: String },
    /// Nodes that have it don't give it.
    NotGiven { what: String, reasons: Vec<(String, String)> },
    /// It can't be kept here.
    Local(String),
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(tried) => write!(f, "no machine of the cluster could be reached: {}", reasons(tried)),
            Self::NotCarried { key, asked } => {
                write!(f, "no machine that was asked has a directory configuration named {key:?}: {}", asked.join(", "))
            }
            Self::NothingThere { path, asked } => {
                write!(f, "there is nothing at {path} on {}", asked.join(", "))
            }
            Self::Disagree(answers) => {
                write!(f, "the machines don't have the same: {}; --image ID chooses one", told(answers))
            }
            Self::NoSuchImage { image, answers } => write!(f, "no machine shows image {image}: {}", told(answers)),
            Self::NoEntry { directory, image, entry } => {
                write!(f, "there is no {entry:?} in {directory} (image {image})")
            }
            Self::NotGiven { what, reasons: why } => write!(f, "no machine gives {what}: {}", reasons(why)),
            Self::Local(reason) => f.write_str(reason),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.there {
            Some((path, image)) => write!(f, "{} has image {image} at {path}", self.node),
            None => write!(f, "{} has nothing there", self.node),
        }
    }
}

/// Answers in one line.
pub(super) fn told(answers: &[Answer]) -> String {
    answers.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn reasons(all: &[(String, String)]) -> String {
    // The reason often names the node already.
    let one = |(node, reason): &(String, String)| {
        if reason.contains(node.as_str()) { reason.clone() } else { format!("{node}: {reason}") }
    };
    all.iter().map(one).collect::<Vec<_>>().join("; ")
}
