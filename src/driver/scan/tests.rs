//! Tests of scanning and comparing.
