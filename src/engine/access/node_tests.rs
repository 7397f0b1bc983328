//! Changes from other nodes: one row for each reason, and that order never matters.
