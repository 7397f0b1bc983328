//! `ciruela-server`: flags, configuration folder, status pages, logs.

pub mod args;
pub mod configuration;
pub mod status;
