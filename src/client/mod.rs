//! `ciruela`: the command line client, one file per command, output through [`ui`].

pub mod args;
pub mod index;
pub mod keys;
pub mod sync;
pub mod ui;
pub mod verify;
